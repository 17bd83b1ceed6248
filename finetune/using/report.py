"""An evaluation as text for a terminal: scores, classes, mistakes, what it took."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from finetune.runs import formats
from finetune.runs.classes import NO_NAME
from finetune.runs.page.confusion import taken_for
from finetune.runs.record import Score, as_number
from finetune.runs.tables import Column, column_width, shorten, text_table
from finetune.text import plural

SHOWN_CLASSES = 40


def evaluation_text(content: Mapping[str, Any], title: str, width: int) -> str:
    """Return an evaluation, as `--json` prints it, for a terminal of `width` characters."""
    blocks = [_head(content, title), _scores(content), _matrix(content, width), _classes(content),
              _mistakes(content, width), _cost(content)]  # fmt: skip
    return "\n\n".join(block for block in blocks if block)


def _head(content: Mapping[str, Any], title: str) -> str:
    dropped = content["dropped_rows"]
    rows = plural(content["rows"], "row") + (f", {dropped:,} dropped" if dropped else "")
    line = f"{title} on {content['file']}: {rows}"
    return f"{line}\n{'─' * min(len(line), 100)}"


def _scores(content: Mapping[str, Any]) -> str:
    scores = {name: Score.from_json(value) for name, value in content["metrics"].items()}
    table = text_table(
        [
            Column("metric", [*scores, "loss"]),
            Column("value", [*map(formats.score, scores.values()), _number(content["loss"])]),
        ]
    )
    own = content.get("of_the_run")
    if not own:
        return table
    return f"{table}\n{own['name']} of the run itself, on {own['split']}: {formats.score(Score.from_json(own))}"


def _number(value: Any) -> str:
    number = as_number(value)
    return "–" if number is None else formats.score_value(number)


def _matrix(content: Mapping[str, Any], width: int) -> str:
    """Return the confusion matrix where it fits; the table by class says what a class is most often taken for."""
    if not content["matrix"]:
        return ""
    names = [name or NO_NAME for name in content["classes"]]
    numbered = [f"{number}" for number in range(1, len(names) + 1)]
    for headings, lines in ((names, names), (numbered, map(" ".join, zip(numbered, names, strict=True)))):
        cells = zip(headings, zip(*content["matrix"], strict=True), strict=True)
        columns = [Column("true \\ said", list(lines))]
        columns += [Column(name, [str(count or "·") for count in counts], right=True) for name, counts in cells]
        if sum(column_width(column) + 2 for column in columns) <= width:
            return text_table(columns)
    return ""


def _classes(content: Mapping[str, Any]) -> str:
    rows = content["per_class"]
    if not rows:
        return ""
    shown, unit = rows[:SHOWN_CLASSES], content["counted"]
    columns = [
        Column("class", [shorten(row["name"] or NO_NAME, 40) for row in shown]),
        Column("entities" if unit == "entity" else f"{unit}s", [f"{row['rows']:,}" for row in shown], right=True),
        *(Column(words, [_number(row[key]) for row in shown], right=True)
          for key, words in (("precision", "precision"), ("recall", "recall"), ("f1", "F1"))),
    ]  # fmt: skip
    if any(row["most_taken_for"] for row in shown):
        columns.append(Column("most often taken for", [taken_for(row) for row in shown]))
    more = f"\n… and {len(rows) - len(shown)} more: --json, --html" if len(rows) > len(shown) else ""
    return text_table(columns) + more


def _mistakes(content: Mapping[str, Any], width: int) -> str:
    rows, by = content["mistakes"], content["mistakes_ordered_by"]
    if not rows:
        return ""
    columns = [
        Column("row", [f"{row['row']:,}" for row in rows], right=True),
        Column("true", [shorten(row["reference"], 24) for row in rows]),
        Column("said", [shorten(row["prediction"], 24) for row in rows]),
        Column(by, [formats.score_value(row["weight"]) for row in rows], right=True),
    ]
    if any(row["detail"] for row in rows):
        columns.append(Column("where", [shorten(row["detail"] or "", 28) for row in rows]))
    left = max(20, width - sum(column_width(column) + 2 for column in columns))
    columns.append(Column("text", [shorten(row["inputs"], left) for row in rows]))
    title = "The largest errors" if by == "error" else "The most confident mistakes"
    return f"{title}\n{text_table(columns)}"


def _cost(content: Mapping[str, Any]) -> str:
    emissions = content["emissions"]
    kwh, low, high = (as_number(emissions.get(f"energy_kwh{end}")) for end in ("", "_low", "_high"))
    lines = [f"energy  {formats.energy_with_band(kwh, low, high)}, loading and measuring included"]
    if kwh is None:
        lines = [f"energy  {formats.NOT_MEASURED}"]
    grams = as_number(emissions.get("emissions_g"))
    lines.append(f"CO2e    {formats.grams(grams)}")
    per_1000 = as_number(emissions.get("wh_per_1000_predictions"))
    answers = f"{formats.significant(per_1000)} Wh" if per_1000 is not None else formats.NOT_MEASURED
    lines.append(f"answers {answers} per 1,000 rows" if per_1000 is not None else f"answers {answers}")
    lines.append(f"time    {formats.duration(as_number(emissions.get('duration_s')))}")
    return "\n".join(lines)
