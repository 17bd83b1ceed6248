"""An evaluation on new rows as the plain values that its page shows."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from finetune.runs import formats
from finetune.runs.mistakes import Findings
from finetune.runs.page import facts
from finetune.runs.page.confusion import findings_content
from finetune.runs.record import Run, Score, as_number
from finetune.runs.tables import shorten
from finetune.text import plural

RULES = (
    "In brackets: confidence interval over the rows.",
    "A band is a bound by engineering judgement on what a reading can be off, not a confidence interval.",
    "Wh per 1,000 rows is measured in passes of their own, with a warm model; the energy is that of the whole command.",
    "What was not measured is called so, and is never 0.",
)


def evaluation_content(run: Run, content: Mapping[str, Any], findings: Findings) -> dict[str, Any]:
    """Return what the template of an evaluation shows; `content` is what `finetune evaluate --json` prints."""
    spent = replace(run, emissions=dict(content["emissions"]))
    scores = {name: Score.from_json(value) for name, value in content["metrics"].items()}
    title = f"{run.name} on {content['file']}"
    return {
        "title": shorten(title, 100),
        "lead": f"{plural(content['rows'], 'row')} of {content['task']}, answered by the model of {run.run_id}",
        "cards": _cards(content, spent, scores),
        "scores": [(name, "–" if score is None else formats.score(score)) for name, score in scores.items()],
        "confusion": findings_content(findings, content["file"], texts=True),
        "phases": facts.phase_rows(spent),
        "components": facts.component_rows(spent),
        "notes": [*content["notes"], *content["emissions"].get("notes", ())],
        "rules": RULES,
    }


def _cards(content: Mapping[str, Any], spent: Run, scores: Mapping[str, Score | None]) -> list[dict[str, str]]:
    main, own = content["main_metric"]["name"], content.get("of_the_run")
    score, before = scores[main], Score.from_json(own) if own else None
    words = [facts.interval_words(score).removeprefix(", ")]
    words += [f"the run's own {own['split']}: {formats.score_value(before.value)}"] if own and before else []
    band, per_1000 = facts.energy_band([[spent]]), as_number(content["emissions"].get("wh_per_1000_predictions"))
    return [
        {"name": main, "value": "–" if score is None else formats.score_value(score.value),
         "words": "; ".join(filter(None, words))},
        {"name": "Wh per 1,000 rows", "value": "not measured" if per_1000 is None else formats.significant(per_1000),
         "words": ""},
        {"name": "Energy", "value": facts.energy_words([[spent]]), "words": f"band {band}" if band else ""},
        {"name": "CO₂e", "value": facts.grams_words([spent], spent.emissions_g()), "words": ""},
    ]  # fmt: skip
