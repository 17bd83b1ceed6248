"""Load a checkpoint and prove by its outputs who attends to whom; or read the attention of its heads.

Run as a process of its own, so that `finetune inspect` stays light: the request comes as JSON on stdin, the answer goes
as one line of JSON to stdout.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from finetune.errors import FinetuneError
from finetune.inspection.masks import BIDIRECTIONAL, CAUSAL, CROSS, Mask
from finetune.models.architecture import ENCODER_DECODER
from finetune.text import first_line

TOKENS, SOURCE_TOKENS = 10, 8
# Where the window is longer, the text that would show it takes too long.
LONGEST_WINDOW = 1024
_EQUAL = 1e-6  # of the largest output: rounding, where kernels do not sum in one order

Section = dict[str, Any]


def main() -> None:
    """Answer the request of stdin."""
    from finetune.console import quiet_libraries

    quiet_libraries()
    request = json.load(sys.stdin)
    try:
        answer = probe_masks(request) if request["what"] == "masks" else probe_heads(request)
    except FinetuneError as error:
        print(json.dumps({"error": error.message, "hint": error.hint}))
        sys.exit(1)
    print(json.dumps(answer))


def probe_masks(request: Mapping[str, Any]) -> Section:
    """Change one token at a time and see which outputs change; return what that shows of each expected mask.

    A model that is none of the three kinds has no expected mask: what is measured is told.
    """
    import torch

    model = _load(request, "sdpa")
    ids = _tokens(model.config)
    expected = [Mask(**entry) for entry in request["masks"]]
    with torch.no_grad():
        if request["kind"] == ENCODER_DECODER:
            found = _both_stacks(model, ids)
        else:
            stack = expected[0].stack if expected else "layers"
            found = {(stack, stack): _influence(lambda row: _states(model(input_ids=row)), ids, ids.shape[1])}
        windows = [_window(model, mask) for mask in expected if mask.window]
    layers = model.config.get_text_config().num_hidden_layers
    masks = [_verdict(mask, found[mask.stack, mask.target], expected, layers) for mask in _one_a_pair(expected)]
    if not expected:
        masks = [_measured(stack, target, matrix) for (stack, target), matrix in found.items()]
    return {"tokens": ids.shape[1], "masks": masks, "windows": [window for window in windows if window]}


def _one_a_pair(masks: Sequence[Mask]) -> list[Mask]:
    """Return one mask for each pair of stacks: outputs show the layers together."""
    return list({(mask.stack, mask.target): mask for mask in masks}.values())


def _load(request: Mapping[str, Any], attention: str) -> Any:
    """Return the model without a head, in float32, ready to evaluate; safetensors only, no code of the checkpoint."""
    import torch
    from transformers import AutoModel
    from transformers.utils import logging

    logging.set_verbosity_error()
    options: Section = {"revision": request["revision"]} if request["revision"] else {}
    if attention == "eager":
        options["attn_implementation"] = attention
    try:
        model = AutoModel.from_pretrained(
            request["place"], dtype=torch.float32, use_safetensors=True, trust_remote_code=False, **options
        )
    except (OSError, ValueError, ImportError, RuntimeError, KeyError) as error:
        raise FinetuneError(
            f"{request['reference']} could not be loaded: {first_line(error)}",
            "Only safetensors weights are loaded; save_pretrained of transformers writes them.",
        ) from error
    if getattr(model.config, "use_cache", False):
        model.config.use_cache = False
    return model.eval()


def _tokens(config: Any) -> Any:
    """Return a row of seeded random tokens that are not special to the model, as ids of shape (1, tokens)."""
    import torch

    text = config.get_text_config()
    special = {
        value for name in ("pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id", "mask_token_id")
        if isinstance(value := getattr(text, name, None), int)
    }  # fmt: skip
    allowed = torch.tensor([token for token in range(min(text.vocab_size, 1000)) if token not in special])
    draw = torch.randint(len(allowed), (1, TOKENS), generator=torch.Generator().manual_seed(0))
    return allowed[draw]


def _states(outputs: Any) -> Any:
    return outputs.last_hidden_state


def _both_stacks(model: Any, ids: Any) -> dict[tuple[str, str], Any]:
    source = ids[:, :SOURCE_TOKENS]
    written = ids.flip(1)

    def encoder(row: Any) -> Any:
        return model(input_ids=row, decoder_input_ids=written).encoder_last_hidden_state

    def decoder(row: Any) -> Any:
        return _states(model(input_ids=source, decoder_input_ids=row))

    def across(row: Any) -> Any:
        return _states(model(input_ids=row, decoder_input_ids=written))

    return {
        ("encoder", "encoder"): _influence(encoder, source, source.shape[1]),
        ("decoder", "decoder"): _influence(decoder, written, written.shape[1]),
        ("decoder", "encoder"): _influence(across, source, written.shape[1]),
    }


def _influence(forward: Callable[[Any], Any], ids: Any, outputs: int) -> Any:
    """Return the largest change of each output (rows) when each token (columns) becomes another, relative to all.

    One text at a time, so that all go through the same kernels and what is not reached stays equal to the bit.
    """
    import torch

    before = forward(ids)[0]
    changes = torch.zeros(outputs, ids.shape[1], dtype=torch.float64)
    for position in range(ids.shape[1]):
        other = ids.clone()
        other[0, position] = next(token for token in ids[0].tolist() if token != ids[0, position])
        changes[:, position] = (forward(other)[0] - before).abs().amax(-1).double()
    return changes / before.abs().max()


def _counts(changes: Any, reach: int) -> Section:
    """Return how many pairs of output and token there are with the token before and after it, and how many changed.

    Those further apart than `reach`, where no layers together can carry anything, are counted as beyond.
    """
    changed = changes > _EQUAL
    pairs = [(i, j) for i in range(changes.shape[0]) for j in range(changes.shape[1])]
    groups = {
        "earlier": [(looks, seen) for looks, seen in pairs if 0 < looks - seen <= reach],
        "later": [(looks, seen) for looks, seen in pairs if 0 < seen - looks <= reach],
        "beyond": [(looks, seen) for looks, seen in pairs if abs(looks - seen) > reach],
    }
    return {
        name: {
            "changed": sum(bool(changed[pair]) for pair in group),
            "of": len(group),
            "largest_change": max((float(changes[pair]) for pair in group), default=0.0),
        }
        for name, group in groups.items()
    }


def _pattern(counts: Section) -> str | None:
    """Return the pattern that the counts show, or None when they show neither."""
    earlier, later = counts["earlier"], counts["later"]
    if earlier["changed"] != earlier["of"] or counts["beyond"]["changed"]:
        return None
    return {0: CAUSAL, later["of"]: BIDIRECTIONAL}.get(later["changed"])


def _measured(stack: str, target: str, changes: Any, reach: int = TOKENS) -> Section:
    reached = [[bool(value > _EQUAL) for value in row] for row in changes]
    if stack == target:
        counts = _counts(changes, reach)
        pattern = _pattern(counts)
    else:  # no token of another text comes before or after
        every = {"changed": sum(map(sum, reached)), "of": changes.numel(), "largest_change": float(changes.max())}
        counts = {"all": every}
        pattern = CROSS if every["changed"] == every["of"] else None
    return {"stack": stack, "target": target, "measured": pattern, "changes": counts, "reached": reached}


def _verdict(mask: Mask, changes: Any, expected: Sequence[Mask], layers: int) -> Section:
    found = _measured(mask.stack, mask.target, changes, _reach(mask, expected, layers))
    return {"expected": mask.pattern, **found, "agrees": found["measured"] == mask.pattern}


def _reach(mask: Mask, expected: Sequence[Mask], layers: int) -> int:
    """Return how far all layers together carry what a token says: each one a window further."""
    windows = [other.window for other in expected if (other.stack, other.target) == (mask.stack, mask.target)]
    if None in windows or not layers:
        return TOKENS
    return layers * sum(window - (mask.pattern == CAUSAL) for window in windows if window)


def _window(model: Any, mask: Mask) -> Section:
    """Return in how many layers nothing beyond a window is attended to, by the weights of the attention themselves.

    It takes a text longer than the window, and a model that tells its attention as a square: else it is not tried.
    """
    import torch

    window = mask.window or 0
    found = {"stack": mask.stack, "window": window, "layers": None, "agrees": None}
    length, limit = window + 4, getattr(model.config, "max_position_embeddings", None)
    if window > LONGEST_WINDOW or (limit and length > limit):
        return found
    model.set_attn_implementation("eager")
    row = _tokens(model.config)[:, torch.arange(length).remainder(TOKENS)]
    attentions = model(input_ids=row, output_attentions=True).attentions
    if not attentions or attentions[0].shape[-2:] != (length, length):
        return found
    beyond = torch.tensor([[not mask.allows(i, j) for j in range(length)] for i in range(length)])
    layers = sum(bool((layer[0].amax(0)[beyond] == 0).all()) for layer in attentions)
    return found | {"layers": layers, "agrees": layers == (mask.layers or len(attentions))}


def probe_heads(request: Mapping[str, Any]) -> Section:
    """Return the tokens of a sentence and the attention of every head over them, by part of the model.

    parts: name → layers × heads × tokens that look × tokens that are seen. An encoder-decoder model reads the sentence
    and writes the same sentence. Raises FinetuneError without a tokenizer, or where attention is not told.
    """
    import torch
    from transformers import AutoTokenizer

    place = Path(request["place"])
    # Without its files transformers makes a tokenizer that knows no word.
    if place.is_dir() and not [path for pattern in _TOKENIZER_FILES for path in place.glob(pattern)]:
        raise FinetuneError(f"{request['reference']} has no tokenizer", _TOKENIZER_HINT)
    try:
        tokenizer = AutoTokenizer.from_pretrained(request["place"], revision=request["revision"] or "main")
    except (OSError, ValueError, ImportError, KeyError) as error:
        raise FinetuneError(
            f"{request['reference']} has no tokenizer that loads: {first_line(error)}",
            _TOKENIZER_HINT,
        ) from error
    model = _load(request, "eager")
    inputs = tokenizer(request["sentence"], return_tensors="pt", truncation=True, max_length=_LONGEST)
    if inputs["input_ids"].shape[1] == 0:
        raise FinetuneError("--attention: the sentence has no tokens", 'Give some words: --attention "The cat sat."')
    tokens = tokenizer.convert_ids_to_tokens(inputs["input_ids"][0].tolist())
    known = {name: inputs[name] for name in ("input_ids", "attention_mask", "token_type_ids") if name in inputs}
    with torch.no_grad():
        if request["kind"] != ENCODER_DECODER:
            return {"tokens": tokens, "parts": {"self": _rounded(model(**known, output_attentions=True).attentions)}}
        outputs = model(**known, decoder_input_ids=inputs["input_ids"], output_attentions=True)
    parts = {
        "encoder": outputs.encoder_attentions, "decoder": outputs.decoder_attentions, "cross": outputs.cross_attentions,
    }  # fmt: skip
    return {"tokens": tokens, "parts": {name: _rounded(layers) for name, layers in parts.items()}}


_TOKENIZER_FILES = ("tokenizer.json", "vocab*", "*.model", "*.tiktoken")
_TOKENIZER_HINT = "Its files (tokenizer.json …) belong beside config.json."
_LONGEST = 64  # tokens; a larger square is nothing to look at


def _rounded(layers: Any) -> list[Any]:
    if not layers or layers[0] is None:
        raise FinetuneError("the model does not tell its attention", "Leave --attention out.")
    return [[[[round(v, 4) for v in row] for row in head] for head in layer[0].tolist()] for layer in layers]


if __name__ == "__main__":
    main()
