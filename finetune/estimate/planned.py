"""How much of each kind of work the phases of a run hold, counted before its first step."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Any

from finetune.data.batching import count_tokens, epoch_batches
from finetune.emissions.forecast import INFERENCE_PASSES
from finetune.estimate.audits import audit_tokens
from finetune.models.adapters import has_adapters
from finetune.training.batches import row_lengths, rows_together
from finetune.training.measure import reported_split
from finetune.training.progress import Progress
from finetune.training.workload import workload_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from finetune.audit.probes import OpenProbe
    from finetune.recipe.schema import Evaluation
    from finetune.training.prepare import Prepared

_STEPS_COUNTED = 100_000  # a second or two


def planned_work(prepared: Prepared, directory: Path, probes: Sequence[OpenProbe] = ()) -> dict[str, Any]:
    """Return the amounts of work by phase and kind (train and evaluate in tokens, record in tokens, save in bytes).

    Also what a token costs depends on: how much of the padded batches is text, and the size of the model.
    `record` is the frozen part of a model, which is run once for each row of a split; `evaluate` is then the rest.
    """
    load, plan = workload_of(prepared, directory), prepared.plan
    whole, ending = load.until(Progress(), plan.total_steps), load.ending()
    padded, share = _train_tokens(prepared)
    phases = {name: {"evaluate": float(tokens)} for name, tokens in _evaluated(prepared, load.split_tokens).items()}
    phases["train"] = {"train": padded}
    phases["save"] = {"save": whole.save + ending.save - load.best_bytes}  # the end reads the best weights back
    if probes:
        phases["audit"] = {"evaluate": audit_tokens(prepared, probes)}
    if prepared.frozen.cut is not None:
        _add_records(prepared, phases, load.split_tokens)
    return {
        "phases": phases,
        "unpadded_share": share,
        "is_exact": prepared.data.stream is None,
        "evaluations": plan.evaluations_between(0, plan.total_steps),
        "size": _size(prepared),
    }


def _evaluated(prepared: Prepared, tokens: dict[str, int]) -> dict[str, int]:
    """Return the tokens of all evaluations by phase; the cost of an answer is measured in at most three passes."""
    evaluation, plan = prepared.recipe.evaluation, prepared.plan
    reported = tokens[reported_split(prepared)]
    on_the_way = plan.evaluations_between(0, plan.total_steps) * tokens.get("validation", 0)
    return {
        "baseline": reported * _readings(evaluation),
        "evaluate": on_the_way + sum(tokens.values()),
        "other": INFERENCE_PASSES * reported,
    }


def _readings(evaluation: Evaluation) -> int:
    """Return how often the baselines read the reported split: asking in words is measured in passes of its own.

    Examples are taken to be as long as the rows; answers that share no tokens, which cost more, are not foreseen.
    """
    own = {"untrained": 1, "zero_shot": 1 + INFERENCE_PASSES,
           "few_shot": (1 + INFERENCE_PASSES) * (1 + evaluation.prompt.shots)}  # fmt: skip
    return sum(times for name, times in own.items() if name in evaluation.baselines)


def _add_records(prepared: Prepared, phases: dict[str, dict[str, float]], tokens: dict[str, int]) -> None:
    """Put in what runs through the frozen part: each split once, when it is first needed, and every measured answer."""
    first = dict.fromkeys(tokens, "evaluate")
    if "untrained" in prepared.recipe.evaluation.baselines:
        first[reported_split(prepared)] = "baseline"
    for name, phase in first.items():
        phases[phase]["record"] = phases[phase].get("record", 0.0) + tokens[name]
    phases["train"]["record"] = float(row_lengths(prepared.encoded.splits["train"]).sum())
    for name in {"other", "audit"} & set(phases):
        phases[name]["record"] = phases[name]["evaluate"]


def _train_tokens(prepared: Prepared) -> tuple[float, float]:
    """Return the tokens of all steps, padding counted, and which share of them is text.

    Of a stream, and of a long run beyond its first steps, the rest is taken to be like what was counted.
    """
    plan, training = prepared.plan, prepared.recipe.training
    lengths = row_lengths(prepared.encoded.splits["train"])
    steps = text = padded = 0
    for epoch in count():
        place = (epoch,) if prepared.data.stream is None else (0, 0)
        batches = epoch_batches(
            lengths, plan.global_batch_size, training.train_sampling_strategy, training.seed, *place
        )
        for batch in batches[: min(plan.total_steps, _STEPS_COUNTED) - steps]:
            tokens = count_tokens(lengths[batch], rows_together(prepared))
            steps, text, padded = steps + 1, text + tokens[0], padded + tokens[1]
        if prepared.data.stream is not None or steps == min(plan.total_steps, _STEPS_COUNTED):
            break
    return padded / steps * plan.total_steps, text / padded


def heaviest_step(prepared: Prepared) -> int:
    """Return the step of the first epoch, counted from 1, that holds the longest row: it needs the most memory."""
    plan, training = prepared.plan, prepared.recipe.training
    lengths = row_lengths(prepared.encoded.splits["train"])
    window = () if prepared.data.stream is None else (0,)
    batches = epoch_batches(
        lengths, plan.global_batch_size, training.train_sampling_strategy, training.seed, 0, *window
    )
    longest = int(lengths[batches.rows].argmax()) // plan.global_batch_size
    return int((batches.order == longest).argmax()) + 1


def _size(prepared: Prepared) -> dict[str, Any]:
    """Return how many parameters take part in the multiplications: those of embeddings are looked up."""
    model = prepared.bare_model
    looked_up = {
        id(parameter)
        for module in model.modules()
        if type(module).__name__ in ("Embedding", "UsedRows") or type(module).__name__.endswith("PositionalEmbedding")
        for parameter in module.parameters()
    }
    computed = [parameter for parameter in model.parameters() if id(parameter) not in looked_up]
    return {
        "computed": sum(parameter.numel() for parameter in computed),
        "trained": sum(parameter.numel() for parameter in computed if parameter.requires_grad),
        "is_full": not has_adapters(model),
    }
