"""One run as the plain values that its page shows."""

from collections.abc import Mapping
from typing import Any

from finetune.runs import formats
from finetune.runs.beside import beside_lines
from finetune.runs.bias import bias_content
from finetune.runs.differences import flatten
from finetune.runs.page import facts
from finetune.runs.page.charts import curves_plot, learning_curve
from finetune.runs.page.confusion import confusion
from finetune.runs.record import Run, as_mapping, as_number
from finetune.runs.report import BASELINE_WORDS, baseline_score
from finetune.runs.show import idle_words, run_facts, run_notes, run_scores, timeline_scores

Section = dict[str, Any]


def run_content(run: Run) -> Section:
    """Return what the template of a run shows; predictions are read from its folder."""
    by_class, trouble = confusion(run)
    splits, scores = run_scores(run)
    return {
        "title": run.name,
        "status": run.status + (f": {run.status_reason}" if run.status_reason else ""),
        "is_finished": run.is_finished,
        "cards": _cards(run),
        "facts": list(run_facts(run).items()),
        "scores": {"splits": splits, "rows": scores} if scores else None,
        "bias": bias_content(run),
        "curves": _curves(run),
        "course": _course(run),
        "bars": facts.energy_bars([(run.name, [[run]])]),
        "phases": facts.phase_rows(run),
        "components": facts.component_rows(run),
        "beside": _beside(run),
        "forecasts": _forecasts(run),
        "confusion": by_class,
        "settings": facts.recipe_rows(run),
        "surroundings": [
            (key, formats.setting(value)) for key, value in flatten({**run.hardware, **run.versions}).items()
        ],
        "notes": [*run_notes(run), *([trouble] if trouble else [])],
        "rules": facts.RULES,
    }


def _cards(run: Run) -> list[Section]:
    main, metric = run.main_score(), str(run.main_metric.get("name"))
    cards = []
    if main is not None:
        before = [
            f"{words} {formats.score_value(score.value)}"
            for name, words in BASELINE_WORDS.items()
            if (score := baseline_score(run, name, metric)) is not None
        ]
        words = "; ".join(word for word in (facts.interval_words(main).removeprefix(", "), ", ".join(before)) if word)
        name = f"{metric} on {run.main_metric.get('split')}"
        cards.append({"name": name, "value": formats.score_value(main.value), "words": words})
    band = facts.energy_band([[run]])
    per_1000 = run.wh_per_1000_predictions()
    cards += [
        {"name": "Energy", "value": facts.energy_words([[run]]), "words": f"band {band}" if band else ""},
        {"name": "CO₂e as run", "value": facts.grams_words([run], run.emissions_g()), "words": _place(run)},
        {"name": "Time", "value": formats.duration(run.duration_s()),
         "words": f"{formats.significant(per_1000)} Wh per 1,000 predictions" if per_1000 is not None else ""},
    ]  # fmt: skip
    return cards


def _place(run: Run) -> str:
    stated = as_mapping(run.emissions.get("carbon_intensity"))
    value = as_number(stated.get("g_per_kwh"))
    words = f"{formats.significant(value)} g/kWh" if value is not None else "grid not known"
    return f"{words}, {stated['location']}" if stated.get("location") else words


def _curves(run: Run) -> Section | None:
    metric = str(run.main_metric.get("name"))
    curve = learning_curve(run, run.name, metric, 1)
    return curves_plot([curve], metric, "", 0) if curve is not None else None


def _course(run: Run) -> Section | None:
    """Return the evaluations as a table: what was spent until each, and its scores."""
    scores = timeline_scores(run)
    rows = [
        [
            formats.setting(entry.get("step")),
            formats.setting(entry.get("epoch")),
            formats.duration(as_number(entry.get("elapsed_s"))),
            formats.energy(as_number(entry.get("energy_kwh"))),
            formats.grams(as_number(entry.get("emissions_g"))),
            *(cells[place] for cells in scores.values()),
        ]
        for place, entry in enumerate(run.timeline)
    ]
    return {"heading": ["step", "epoch", "time", "energy", "CO₂e", *scores], "rows": rows} if rows else None


def _beside(run: Run) -> list[tuple[str, str]]:
    """Return what is counted beside the emissions and never in them, and what the machine drew at rest."""
    idle = idle_words(run)
    return [*beside_lines(run).items(), *([("idle", idle)] if idle else [])]


def _forecasts(run: Run) -> list[Section]:
    """Return what was forecast for the whole run on its way, and by how much the end differed from it."""
    stated = run.emissions.get("forecasts")
    return [
        {
            "when": f"step {formats.setting(entry.get('at_step'))}",
            "share": _percent(entry.get("share")),
            "energy": formats.energy(as_number(entry.get("energy_kwh"))),
            "range": _range(entry),
            "grams": formats.grams(as_number(entry.get("emissions_g"))),
            "time": formats.duration(as_number(entry.get("duration_s"))),
            "error": _percent(entry.get("error"), "+"),
        }
        for entry in (stated if isinstance(stated, list) else [])
        if isinstance(entry, Mapping)
    ]


def _range(entry: Mapping[str, Any]) -> str:
    low, high = as_number(entry.get("low")), as_number(entry.get("high"))
    if low is None or high is None:
        return "–"
    unit, factor = formats.energy_unit([high])
    return f"{formats.span(low * factor, high * factor)} {unit}"


def _percent(share: Any, sign: str = "") -> str:
    number = as_number(share)
    return "–" if number is None else f"{100 * number:{sign}.0f} %"
