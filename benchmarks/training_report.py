"""From the runs of the training benchmark to medians, ratios, goals, a table, and a sentence for the README."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.ceiling import rows_per_second
from benchmarks.pairs import median, paired_difference
from benchmarks.publishing import markdown_table
from finetune.text import plural

LABELS = {
    "finetune": "finetune",
    "trainer": "Trainer, its defaults",
    "trainer-tuned": "Trainer, best flags",
    "pad128": "Trainer, padded to 128",
    "accelerate": "Accelerate loop",
    "accelerate-bf16": "Accelerate loop, mixed precision",
}
# What finetune is measured against, and the least ratio of its rows/s to that.
GOALS = {
    "training": (("trainer", 3.5), ("trainer-tuned", 1.5), ("ceiling", 0.5)),
    "training-gpu": (("trainer-tuned", 1.0),),
}


@dataclass(frozen=True)
class Outcome:
    """One run. training_s, training_cpu_s, others_share: the optimizer steps alone; process_s: from start to exit."""

    system: str
    repeat: int
    rows: int  # training rows, those of every epoch counted
    steps: int
    training_s: float
    training_cpu_s: float
    others_share: float
    process_s: float
    peak_memory_bytes: int
    peak_gpu_bytes: int | None
    joules_per_row: float | None
    test_accuracy: float
    test_rows: int
    wrong_rows: str  # 1-based rows of the test split, in words so that the file stays readable

    @property
    def rows_per_s(self) -> float:
        """Return training rows a second."""
        return self.rows / self.training_s

    @property
    def rows_per_cpu_s(self) -> float:
        """Return training rows a second of processor time."""
        return self.rows / self.training_cpu_s


@dataclass(frozen=True)
class Rate:
    """Matrix products a second, in FLOP/s, measured `before` or `after` a repeat: median and best pass."""

    when: str
    repeat: int
    flops_per_s: float
    best_flops_per_s: float


def summary(heading: Mapping[str, Any], outcomes: Sequence[Outcome], rates: Sequence[Rate]) -> dict[str, Any]:
    """Return medians over the repeats, the ceiling, how much faster finetune is than each, and the goals."""
    systems = {name: _medians(heading, [one for one in outcomes if one.system == name]) for name in LABELS}
    ceiling = rows_per_second([vars(rate) for rate in rates], heading["data"]["flops_per_row"])
    ratios = {name: _ratio(outcomes, name, "rows_per_s") for name in LABELS if name != "finetune"}
    by_cpu = {name: _ratio(outcomes, name, "rows_per_cpu_s") for name in LABELS if name != "finetune"}
    own = systems["finetune"]
    ratios["ceiling"] = own["rows_per_s"] / ceiling if own and ceiling else None
    return {
        "systems": {name: found for name, found in systems.items() if found},
        "ceiling_flops_per_s": median([rate.flops_per_s for rate in rates]) if rates else None,
        "ceiling_rows_per_s": ceiling,
        "finetune_against": {name: ratio for name, ratio in ratios.items() if ratio is not None},
        "finetune_against_by_cpu_time": {name: ratio for name, ratio in by_cpu.items() if ratio is not None},
        "goals": [_goal(name, least, ratios[name]) for name, least in GOALS[heading["benchmark"]] if ratios[name]],
        "accuracy_difference": _accuracy_difference(outcomes),
    }


def _goal(against: str, least: float, found: float | None) -> dict[str, Any]:
    return {"against": against, "least": least, "found": found, "reached": found is not None and found >= least}


def _medians(heading: Mapping[str, Any], outcomes: Sequence[Outcome]) -> dict[str, Any]:
    if not outcomes:
        return {}
    speed = median([one.rows_per_s for one in outcomes])
    joules = [one.joules_per_row for one in outcomes if one.joules_per_row is not None]
    gpu = [one.peak_gpu_bytes for one in outcomes if one.peak_gpu_bytes is not None]
    return {
        "repeats": len(outcomes),
        "rows_per_s": speed,
        "tokens_per_s": speed * heading["data"]["tokens_per_row"],
        "cpu_s_per_1000_rows": median([1000 * one.training_cpu_s / one.rows for one in outcomes]),
        "joules_per_row": median(joules) if joules else None,
        "peak_memory_gib": median([one.peak_memory_bytes for one in outcomes]) / 2**30,
        "peak_gpu_gib": median(gpu) / 2**30 if gpu else None,
        "test_accuracy": median([one.test_accuracy for one in outcomes]),
        "others_share": median([one.others_share for one in outcomes]),
    }


def _ratio(outcomes: Sequence[Outcome], name: str, speed_of: str) -> float | None:
    """Return the median over the repeats of finetune's speed by that of a system in the same repeat."""
    speeds = {(one.system, one.repeat): getattr(one, speed_of) for one in outcomes}
    ratios = [
        speeds["finetune", repeat] / speed
        for (system, repeat), speed in speeds.items()
        if system == name and ("finetune", repeat) in speeds
    ]
    return median(ratios) if ratios else None


def _accuracy_difference(outcomes: Sequence[Outcome]) -> dict[str, Any] | None:
    """Return finetune minus Trainer with its defaults in test accuracy, over the repeats that both have."""
    wrong = {(one.system, one.repeat): set(map(int, one.wrong_rows.split())) for one in outcomes}
    repeats = [repeat for system, repeat in wrong if system == "finetune" and ("trainer", repeat) in wrong]
    if not repeats:
        return None
    pairs = [(wrong["finetune", repeat], wrong["trainer", repeat]) for repeat in repeats]
    return {"repeats": len(repeats), **paired_difference(pairs, outcomes[0].test_rows)}


def describe(result: Mapping[str, Any]) -> str:
    """Return the Markdown of a result: where it was taken, the table, the goals, the accuracy."""
    settings, data, found = result["settings"], result["data"], result["summary"]
    known = ", ".join(f"{name} {number}" for name, number in result["versions"].items())
    rows = plural(data["train_rows"], "row")
    parts = [
        f"{result['date']} · {result['machine']} · {settings['threads']} threads · {known}",
        f"{settings['checkpoint']} · {data['name']}: {rows}, {data['classes']} labels, "
        f"{data['tokens_per_row']:.1f} tokens a row (longest {data['longest_row_tokens']}) · "
        f"{plural(settings['epochs'], 'epoch')}, batch {settings['batch_size']}, learning rate "
        f"{settings['learning_rate']:g} · {settings['mixed_precision']} for finetune, Trainer's best flags and the "
        f"ceiling · joules {result['energy']}",
        _table(found),
        _goal_words(found["goals"]),
        _accuracy_words(found["accuracy_difference"]),
    ]
    return "\n\n".join(part for part in parts if part)


def _table(found: Mapping[str, Any]) -> str:
    header = [
        "system", "repeats", "rows/s", "tokens/s", "finetune is", "CPU s per 1,000 rows", "by CPU s", "J/row",
        "peak GiB", "test accuracy", "used by others",
    ]  # fmt: skip
    rows = []
    for name, one in found["systems"].items():
        ratio, by_cpu = (found[key].get(name) for key in ("finetune_against", "finetune_against_by_cpu_time"))
        memory = f"{one['peak_memory_gib']:.2f}"
        if one["peak_gpu_gib"] is not None:
            memory += f", GPU {one['peak_gpu_gib']:.2f}"
        rows.append(
            [
                LABELS[name],
                str(one["repeats"]),
                f"{one['rows_per_s']:.1f}",
                f"{one['tokens_per_s']:,.0f}",
                "" if ratio is None else f"{ratio:.2f} ×",
                f"{one['cpu_s_per_1000_rows']:.1f}",
                "" if by_cpu is None else f"{by_cpu:.2f} ×",
                "not measured" if one["joules_per_row"] is None else f"{one['joules_per_row']:.2f}",
                memory,
                f"{one['test_accuracy']:.4f}",
                f"{100 * one['others_share']:.0f} %",
            ]
        )
    if found["ceiling_rows_per_s"] is not None:
        share = found["finetune_against"].get("ceiling")
        speed = f"{found['ceiling_rows_per_s']:.0f}"
        rate = f"ceiling: {found['ceiling_flops_per_s'] / 1e9:,.0f} GFLOP/s"
        rows.append([rate, "", speed, "", "" if share is None else f"{share:.2f} ×", *[""] * 6])
    return markdown_table(header, rows)


def _goal_words(goals: Sequence[Mapping[str, Any]]) -> str:
    lines = [
        f"- finetune against {LABELS.get(goal['against'], 'the ceiling')}: at least {goal['least']:g} ×, found "
        f"{goal['found']:.2f} ×: {'reached' if goal['reached'] else 'not reached'}"
        for goal in goals
    ]
    return "\n".join(["Goals:", "", *lines]) if lines else ""


def _accuracy_words(difference: Mapping[str, Any] | None) -> str:
    if difference is None:
        return ""
    words = f"finetune − Trainer with its defaults, test accuracy: {100 * difference['mean']:+.2f} points"
    if difference["low"] is None:
        return f"{words}; one repeat, the seed noise is unknown."
    return (
        f"{words} over {difference['repeats']} seeds; 95 % interval {100 * difference['low']:+.2f} to "
        f"{100 * difference['high']:+.2f} (seeds and rows)."
    )


def speed_words(result: Mapping[str, Any]) -> str:
    """Return what the project's README says of the speed, from a stored result; nothing without the figures for it."""
    found = result.get("summary", {})
    own, against = found.get("systems", {}).get("finetune"), found.get("finetune_against", {})
    names = [name for name in ("trainer", "trainer-tuned", "pad128", "accelerate") if name in against]
    if not own or not names:
        return ""
    others = ", ".join(f"{against[name]:.2f} × {LABELS[name]}" for name in names)
    share = f", {100 * against['ceiling']:.0f} % of what its matrix products allow" if "ceiling" in against else ""
    return (
        f"Measured on {result['date']} ({result['machine']}; {result['settings']['checkpoint']}, "
        f"{result['data']['name']}, {result['data']['tokens_per_row']:.0f} tokens a row): "
        f"{own['rows_per_s']:.0f} training rows/s, {others}{share}."
    )
