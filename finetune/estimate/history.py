"""What a token cost in past runs on this machine that are like the one that is planned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from finetune.emissions.components import JOULES_PER_KWH
from finetune.emissions.forecast import Block, Rate, complete_rates, rate_of
from finetune.estimate.assumed import train_operations
from finetune.runs.record import Run, as_number

_NEWEST = 10
_FORWARD = (0.5, 1.0, 2.0)  # how well it carries over from training to the forward pass alone
_OTHER_MODEL = (1 / 1.5, 1.0, 1.5)  # how well the count of operations carries over from one model to another

Section = Mapping[str, Any]


@dataclass(frozen=True)
class History:
    """Rates from past runs, which runs they are, and whether these had the same model."""

    rates: dict[str, Rate]
    run_ids: tuple[str, ...]
    is_same_model: bool


def past_rates(runs: Sequence[Run], found: Section, recipe: Section) -> History | None:
    """Return rates from the newest past runs that compare, those with the same model before others; None without any.

    A run compares when it is finished and whole, alone on the machine, was measured by the same methods on the same
    hardware, and trained a model of the same kind in the same way. `found` is what the probe found, `recipe` the
    settings of the recipe as plain values.
    """
    alike = [run for run in runs if _compares(run, found, recipe)]
    same = [run for run in alike if _same_model(run, found)]
    chosen = (same or alike)[-_NEWEST:]
    if not chosen:
        return None
    recorded = "record" in found["work"]["phases"]["train"]
    rate = rate_of([_block(run, recorded) for run in chosen])
    assert rate is not None
    if not same:
        rate = rate.times(_OTHER_MODEL)
    size, trained = found["model"]["parameters"], found["model"]["trainable_parameters"]
    step = 6 * trained if recorded else _operations(found["model"], recipe, recorded)
    train = _times(rate, step * found["work"]["unpadded_share"])
    forward = rate.times(_FORWARD)
    rates = complete_rates({"train": train, "evaluate": _times(forward, 2 * (trained if recorded else size))})
    assert rates is not None
    return History(rates | {"record": _times(forward, 2 * size)}, tuple(run.run_id for run in chosen), bool(same))


def _times(rate: Rate, operations: float) -> Rate:
    return rate.times((operations, operations, operations), operations)


def _compares(run: Run, found: Section, recipe: Section) -> bool:
    emissions = run.emissions
    return (
        run.is_finished
        and run.is_complete
        and run.was_alone
        and not emissions.get("repeated_work_kwh")
        and _tokens(run) > 0
        and (_train_phase(run, "energy_kwh") or 0.0) > 0
        and all(run.hardware.get(key) == value for key, value in found["hardware"].items())
        and _methods(emissions) == _methods(found["emissions"])
        and run.model.get("kind") == found["model"]["kind"]
        and (as_number(run.model.get("parameters")) or 0.0) > 0
        and _way(run.recipe) == _way(recipe)
        and (not _is_cut(recipe) or (_same_model(run, found) and _epochs(run.recipe) == _epochs(recipe)))
    )


def _methods(emissions: Section) -> Any:
    """Return how each component is read and by what: readings by other methods err in other ways."""
    components = emissions.get("components") or {}
    return {name: (entry.get("method"), entry.get("detail")) for name, entry in components.items()}, emissions["tool"]


def _way(recipe: Section) -> tuple[Any, ...]:
    model, training, peft = (recipe.get(name) or {} for name in ("model", "training", "peft"))
    switches = ("gradient_checkpointing", "torch_compile", "gradual_unfreezing", "optim")
    return (model.get("freeze"), bool(peft), *(training.get(name) for name in switches))


def _is_cut(recipe: Section) -> bool:
    """Tell whether a frozen part may be computed once a row, so that the cost of a token depends on the epochs."""
    return (recipe.get("model") or {}).get("freeze") not in (None, "none", "embeddings")


def _epochs(recipe: Section) -> Any:
    return (recipe.get("training") or {}).get("num_train_epochs")


def _same_model(run: Run, found: Section) -> bool:
    keys = ("model_type", "parameters", "trainable_parameters")
    return all(run.model.get(key) == found["model"][key] for key in keys)


def _block(run: Run, recorded: bool) -> Block:
    joules = (_train_phase(run, "energy_kwh") or 0.0) * JOULES_PER_KWH
    operations = _tokens(run) * _operations(run.model, run.recipe, recorded)
    return Block(operations, joules, _train_phase(run, "duration_s") or 0.0)


def _operations(model: Section, recipe: Section, recorded: bool) -> float:
    """Return the operations of the phase train for each token of a step.

    2 a parameter forward and 4 a trained one backward. Where the output of the frozen part is `recorded`, it was run
    once a row within that phase, so once in all epochs.
    """
    size, trained = model["parameters"], model["trainable_parameters"]
    if recipe.get("peft"):
        return train_operations(size, trained, False)
    forward = trained + (size - trained) / (_epochs(recipe) or 1) if recorded else size
    return float(2 * forward + 4 * trained)


def _tokens(run: Run) -> float:
    """Return the tokens that a run trained on, without padding."""
    rate, seconds = (as_number(run.training.get(name)) for name in ("train_tokens_per_second", "train_runtime_s"))
    return (rate or 0.0) * (seconds or 0.0)


def _train_phase(run: Run, name: str) -> float | None:
    phase = (run.emissions.get("phases") or {}).get("train") or {}
    return as_number(phase.get(name))
