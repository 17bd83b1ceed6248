"""An inspection as lines for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from finetune.inspection.drawing import drawn
from finetune.inspection.masks import DRAWN_WINDOW, Mask
from finetune.models.architecture import DECODER_ONLY, ENCODER_DECODER, ENCODER_ONLY
from finetune.runs import formats
from finetune.runs.tables import Column, plain, text_table
from finetune.text import join_words, plural

_KINDS = {
    ENCODER_ONLY: "It reads a whole text at once: made to classify, to tag words, to compare texts.",
    DECODER_ONLY: "It writes a text token by token, each from those before it; with a head it classifies too.",
    ENCODER_DECODER: "One half reads a source, the other writes a target from it: made to translate and to summarise.",
}
_WAYS = {"full": "in full", "frozen_backbone": "frozen backbone", "lora": "LoRA"}
_TYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}

Section = Mapping[str, Any]


def describe(report: Section, masks: Sequence[Mask], blocks: bool, width: int = 100) -> str:
    """Return an inspection as text; `blocks` draws with block characters instead of ASCII."""
    kind = report["kind"]
    title = f"{report['checkpoint']}: {kind or 'none of the three kinds'} ({report['model_type']})"
    lines = [title, "─" * min(len(title), width), _KINDS.get(kind) or f"Neither: {report['why_none']}."]
    lines += [f"{name:<11}{words}" for name, words in _facts(report)]
    parts = ["\n".join(lines)]
    if masks:
        parts.append(
            "\n".join(["who may attend to whom: a row looks, a column is seen", "", drawn(masks, blocks, width)])
        )
        parts.append("\n".join(_pattern(mask) for mask in masks))
    if report["probe"]:
        parts.append("\n".join(_proof(report["probe"])))
    parts += [_tasks(report), _memory(report["memory"]), "\n".join(_work(report))]
    parts.append("\n".join(f"note: {note}" for note in report["notes"]))
    parts.append(f"next       {report['next']}")
    return plain("\n\n".join(part for part in parts if part))


def _facts(report: Section) -> list[tuple[str, str]]:
    is_pair = len(report["stacks"]) > 1
    facts = [(stack["name"] if is_pair else "layers", _stack(stack)) for stack in report["stacks"]]
    context, size = report["context_tokens"], report["size_bytes"]
    known = f"{report['vocabulary_size']:,} tokens" if report["vocabulary_size"] else "not said"
    limit = f"up to {context:,} tokens at once" if context else "no limit on the length is set"
    facts.append(("vocabulary", f"{known}; {limit}"))
    if parameters := report["parameters"]:
        total, embedding, rest = (formats.count(parameters[name]) for name in ("total", "embedding", "rest"))
        facts.append(("parameters", f"{total}: {embedding} in embeddings, {rest} in the rest"))
        types = join_words([_TYPES.get(name, name) for name in report["dtypes"]], "and")
        facts.append(("on disk", f"{formats.file_size(size)}, {types}"))
    else:
        facts.append(("parameters", "not known"))
    if report["tied_weights"] is not None:
        apart = "the layer that predicts tokens has weights of its own"
        facts.append(("tied", "the embeddings also predict tokens" if report["tied_weights"] else f"no: {apart}"))
    return facts


def _stack(stack: Section) -> str:
    layers, heads, pairs = stack["layers"], stack["heads"], stack["key_value_heads"]
    words = [plural(layers, "layer") if layers else "layers not said"]
    if heads:
        shared = f" that share {plural(pairs, 'key-value head')}" if pairs != heads else ""
        words.append(f"{plural(heads, 'head')} of {stack['head_width']}{shared}")
    if stack["width"]:
        words.append(f"{stack['width']:,} wide")
    if stack["feed_forward_width"]:
        words.append(f"feed-forward {stack['feed_forward_width']:,}")
    return ", ".join(words)


def _pattern(mask: Mask) -> str:
    drawn_narrow = f"; drawn with {DRAWN_WINDOW}" if mask.window else ""
    return f"{mask.stack:<11}{mask.words}{drawn_narrow}"


def _proof(probe: Section) -> list[str]:
    lines = [f"proof      the weights were loaded and one token of {probe['tokens']} was changed at a time"]
    for entry in probe["masks"]:
        lines.append(f"{entry['stack']:<11}{_shown(entry)}: {_changes(entry['changes'])}")
    for entry in probe["windows"]:
        words = "not tried: the text would be too long, or the model does not tell its attention"
        if entry["layers"] is not None:
            words = f"nothing beyond is attended to in {plural(entry['layers'], 'layer')}"
            words += ", as expected" if entry["agrees"] else ", NOT as its configuration says"
        lines.append(f"{entry['stack']:<11}window of {entry['window']}: {words}")
    return lines


def _shown(entry: Section) -> str:
    measured = entry["measured"] or "neither causal nor bidirectional"
    if "agrees" not in entry:
        return f"{measured} in effect"
    return f"{measured}, as expected" if entry["agrees"] else f"{measured}, NOT {entry['expected']} as expected"


def _changes(changes: Section) -> str:
    if every := changes.get("all"):
        return f"a source token changes {every['changed']} of {every['of']} outputs of the decoder"
    later, earlier, beyond = changes["later"], changes["earlier"], changes["beyond"]
    exactly = ", all equal to the bit" if later["largest_change"] == 0 else ""
    words = (
        f"a later token changes {later['changed']} of {later['of']} outputs{exactly}; "
        f"an earlier one {earlier['changed']} of {earlier['of']}"
    )
    return words + (f"; one beyond all windows {beyond['changed']} of {beyond['of']}" if beyond["of"] else "")


def _tasks(report: Section) -> str:
    if not report["tasks"]:
        return "tasks      none that this version of finetune has"
    lines = [f"tasks      {', '.join(f'{name} ({auto})' for name, auto in report['tasks'].items())}"]
    width = max((len(recipe["name"]) for recipe in report["recipes"]), default=0)
    for number, recipe in enumerate(report["recipes"]):
        own = " (made for this checkpoint)" if recipe["is_of_this_checkpoint"] else ""
        lines.append(f"{'recipes' if number == 0 else '':<11}{recipe['name']:<{width}}  {recipe['task']}{own}")
    return "\n".join(lines)


def _memory(memory: Section) -> str:
    found = {name: memory[name] for name in _WAYS if memory[name]}
    if not found:
        return "memory     not known"
    columns = [Column("memory to fine-tune", [_WAYS[name] for name in found])]
    columns.append(Column("trained", [formats.count(entry["trainable_parameters"]) for entry in found.values()], True))
    for heading, key in (
        ("weights", "weights_bytes"), ("gradients", "gradients_bytes"), ("AdamW", "optimizer_bytes"),
        ("activations", "activations_estimate_bytes"), ("about", "total_bytes"),
    ):  # fmt: skip
        columns.append(Column(heading, [formats.file_size(entry[key]) for entry in found.values()], right=True))
    assumed = memory["assumes"]
    return (
        f"{text_table(columns)}\nin float32, {assumed['rows']} rows of {assumed['tokens']} tokens, LoRA of rank "
        f"{assumed['lora_rank']}; an estimate, finetune estimate RECIPE measures"
    )


def _work(report: Section) -> list[str]:
    operations, energy = report["operations_per_token"], report["joules_per_token"]
    lines = []
    if operations:
        for name, forward in operations["forward"].items():
            where = f" through the {name}" if len(operations["forward"]) > 1 else ""
            full, lora = (formats.count(operations[way][name]) for way in ("train_full", "train_lora"))
            lines.append(
                f"FLOPs      {formats.count(forward)} a token{where}, {full} to train on it in full, {lora} with LoRA "
                f"(texts of {operations['tokens']} tokens)"
            )
    else:
        lines.append("FLOPs      not known")
    if energy is None:
        lines.append(f"joules     {formats.NOT_MEASURED}: no whole run of this checkpoint on this machine is there")
    for trained, spread in (energy or {}).items():
        count = len(spread["run_ids"])
        several = f" ({formats.span(spread['low'], spread['high'])})" if count > 1 else ""
        lines.append(
            f"joules     {formats.significant(spread['median'])} a training token{several}, trained: {trained}; "
            f"measured in {plural(count, 'run')} on this machine"
        )
    return lines
