"""A study as a page, and its charts as a drawing or an image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from finetune.runs import formats
from finetune.runs.page import facts
from finetune.runs.page.render import figure_style, page, svg
from finetune.runs.tables import Column
from finetune.runs.total import total_energy
from finetune.study.charts import figure, legend, panels
from finetune.study.findings import Findings
from finetune.study.report import (
    cell_columns,
    energy_lines,
    pretraining_words,
    reach_columns,
    reach_lines,
    retained_words,
    search_columns,
    size_columns,
    subject,
)
from finetune.text import plural

Section = dict[str, Any]

_CAPTION = (
    "Points are means over seeds with their 95 % intervals. Lines lead through the isotonic means, straight in the "
    "logarithm; they tell what a score needs, and nothing is told beyond their ends. All strategies had the same rows: "
    "each amount holds those of the smaller ones. That other rows could have been drawn is not in the intervals."
)
_CELLS = (
    "Means over seeds ± half their 95 % interval (t). (noise): seeds and test rows alone could make the difference, "
    "counting how many differences are shown. Energy is train + evaluate + save of one run on average; × energy "
    "is over the reference on the same rows with the range that meters and runs leave it, undecided where that holds 1."
)
_REACH = (
    "Interpolated on the isotonic means, linearly in the logarithm of rows or energy, never beyond what was measured. "
    "95 %: 2,000 draws of what seeds (by Student's t) and test rows leave open; a draw in which the score is not "
    "reached counts as more than the largest amount. The range of an energy ratio holds the errors of the meters as "
    "well. Saved is what a strategy takes more for the same score (−: less); at least, where it does not reach it."
)
_SIZES = (
    "On the largest amount of rows. Retained: the share of the reference's score, over 2,000 draws of what seeds and "
    "test rows leave open. Predictions are timed and metered in passes of the forward path over the test rows."
)
_SEARCH = "One run a candidate with the first seed. The best validation score chooses; the test split is never read."


def study_html(found: Findings) -> str:
    """Return a study as one HTML page."""
    return page("study.html", study_content(found))


def study_svg(found: Findings) -> str:
    """Return the charts of a study as one SVG drawing, in colours that do not depend on a theme."""
    return svg("study.svg", **figure(found), style=figure_style())


def study_content(found: Findings) -> Section:
    """Return what the template of a study shows."""
    results, study = found.results, found.results.study
    tables = [_table("cells", "Table", "Every cell", cell_columns(results), _CELLS)]
    if found.reaches:
        title = f"What reaching the score of {study.reference} takes"
        tables.append(_table("reach", "To reach it", title, reach_columns(results, found.reaches), _REACH))
    if found.sizes:
        tables.append(
            _table("sizes", "Size and speed", "Size, speed, score", size_columns(results, found.sizes), _SIZES)
        )
    if results.searches:
        tables.append(_table("search", "Search", "The learning rates", search_columns(results), _SEARCH))
    drawn = panels(found)
    return {
        "title": study.name,
        "lead": subject(results),
        "missing": results.missing,
        "cards": _cards(found),
        "verdicts": reach_lines(results, found.reaches),
        "pretraining": pretraining_words(results),
        "panels": drawn,
        "curves_title": " and ".join(["Score against rows", "energy"])
        if len(results.amounts) > 1
        else "Score and energy",
        "legend": legend(results),
        "caption": _CAPTION,
        "tables": tables,
        "notes": [*energy_lines(results), *results.notes],
        "rules": facts.RULES,
    }


def _table(name: str, short: str, title: str, columns: Sequence[Column], words: str) -> Section:
    rows = list(zip(*(column.cells for column in columns), strict=True))
    return {"id": name, "short": short, "title": title, "columns": columns, "rows": rows, "words": words}


def _cards(found: Findings) -> list[Section]:
    """Return the figures at the top: the best cell, what is retained, what all of it used."""
    results = found.results
    total = total_energy(list(results.runs))
    cards = []
    if results.cells:
        best = max(results.cells, key=lambda cell: results.sign * cell.score.value)
        words = f"{best.strategy} on {best.rows:,} rows"
        cards.append(
            {
                "name": f"Best {results.metric} on {results.split}",
                "value": formats.mean_score(best.score),
                "words": words,
            }
        )
    cards += [
        {"name": f"Retained by {size.cell.strategy}", "value": retained_words(size), "words": f"of {results.metric}"}
        for size in found.sizes
        if size.retained is not None
    ]
    at_least = "≥ " if total["without_reading"] + total["incomplete"] and total["energy_kwh"] is not None else ""
    energy, grams = at_least + formats.energy(total["energy_kwh"]), at_least + formats.grams(total["emissions_g"])
    cards.append({"name": "Energy of the study", "value": energy, "words": plural(len(results.runs), "run")})
    cards.append({"name": "CO₂e as run", "value": grams, "words": "without pre-training"})
    return cards
