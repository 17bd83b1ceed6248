"""Score against energy in the characters of a terminal, without any colour."""

import string
from collections.abc import Sequence
from itertools import pairwise

from finetune.runs import formats
from finetune.runs.axes import Axis, energy_axis, score_axis
from finetune.runs.scatter import (
    DOMINATED,
    FRONT,
    NOT_RANKED,
    UNDECIDED,
    Mark,
    Scatter,
    axis_words,
    front_line,
)
from finetune.runs.tables import plain, shorten

_HEIGHT = 15
_NARROWEST = 40
_LETTERS = string.ascii_lowercase + string.ascii_uppercase
_SIGNS = {FRONT: "●", UNDECIDED: "○", DOMINATED: "·", NOT_RANKED: "□"}
_IN_ASCII = str.maketrans({"●": "*", "○": "o", "·": ".", "□": "x", "─": "-", "│": "|", "└": "+", "┴": "+", "┤": "+",
                           "→": ">", "╌": ".", "–": "-", "…": "~"})  # fmt: skip


def scatter_text(scatter: Scatter, width: int, is_ascii: bool = False) -> str:
    """Return the plot of a set for a terminal of `width` characters, and what its letters stand for.

    Runs in one place share a letter. With more runs than letters each is drawn by how it stands to the front, and only
    the front is listed. `is_ascii` is for terminals that cannot show lines and dots.
    """
    energy_words, score_words = axis_words(scatter)
    unit, factor = formats.energy_unit(mark.kwh for mark in scatter.marks)
    drawing, signs = _drawing(scatter, factor, max(width, _NARROWEST))
    lines = [score_words, *drawing]
    lines += [f"{energy_words}, {unit}".rjust(max(width, _NARROWEST)), "", *_legend(scatter, signs, width)]
    text = plain("\n".join(line.rstrip() for line in lines))
    return text.translate(_IN_ASCII) if is_ascii else text


Place = tuple[int, int]
"""Row and column of a character."""


def _signs(marks: Sequence[Mark], places: dict[str, Place]) -> dict[str, str]:
    """Return the sign of each mark by its key: a letter for each place, or how it stands to the front."""
    if len(marks) > len(_LETTERS):
        return {mark.key: _SIGNS[mark.kind] for mark in marks}
    letters = dict(zip(dict.fromkeys(places[mark.key] for mark in marks), _LETTERS, strict=False))
    return {mark.key: letters[places[mark.key]] for mark in marks}


def _drawing(scatter: Scatter, factor: float, width: int) -> tuple[list[str], dict[str, str]]:
    """Return the lines of the plot, and the sign of each mark by its key."""
    marks = scatter.marks
    scores = [value for mark in marks for value in (mark.score, mark.score_low, mark.score_high) if value is not None]
    y = score_axis(scores, _HEIGHT - 1, 0, ticks=4)
    left = max(len(words) for _, words in y.ticks) + 1
    energies = [value * factor for mark in marks for value in (mark.kwh, mark.kwh_low, mark.kwh_high) if value]
    x = energy_axis(energies, 0, width - left - 2, ticks=max(3, width // 16))
    cells = [[" "] * (width - left - 1) for _ in range(_HEIGHT)]
    _draw_front(cells, front_line(scatter), x, y, factor)
    if len(marks) <= len(_LETTERS):
        for mark in marks:
            _draw_bands(cells, mark, x, y, factor)
    places = {mark.key: (round(y.at(mark.score)), round(x.at(mark.kwh * factor))) for mark in marks}
    signs = _signs(marks, places)
    for mark in sorted(marks, key=lambda mark: mark.kind == FRONT):
        row, column = places[mark.key]
        cells[row][column] = signs[mark.key]
    words = {round(place): text for place, text in y.ticks}
    lines = [
        f"{words.get(row, ''):>{left - 1}} {'┤' if row in words else '│'}{''.join(line)}"
        for row, line in enumerate(cells)
    ]
    return [*lines, *_energy_ticks(x, left, width)], signs


def _draw_front(cells: list[list[str]], marks: Sequence[Mark], x: Axis, y: Axis, factor: float) -> None:
    for mark, following in pairwise(marks):
        row = round(y.at(mark.score))
        for column in range(round(x.at(mark.kwh * factor)), round(x.at(following.kwh * factor))):
            cells[row][column] = "╌"


def _draw_bands(cells: list[list[str]], mark: Mark, x: Axis, y: Axis, factor: float) -> None:
    row, column = round(y.at(mark.score)), round(x.at(mark.kwh * factor))
    end = len(cells[row]) - 1 if mark.kwh_high is None else round(x.at(mark.kwh_high * factor))
    for place in range(round(x.at(mark.kwh_low * factor)), end + 1):
        cells[row][place] = "─"
    if mark.kwh_high is None:
        cells[row][end] = "→"
    if mark.score_low is not None and mark.score_high is not None:
        for place in range(round(y.at(mark.score_high)), round(y.at(mark.score_low)) + 1):
            cells[place][column] = "│"


def _energy_ticks(x: Axis, left: int, width: int) -> list[str]:
    rule, words = list("└" + "─" * (width - left - 1)), [" "] * width
    free = 0
    for place, text in x.ticks:
        column = round(place) + 1
        rule[column] = "┴"
        start = min(max(0, left + column - len(text) // 2), width - len(text))
        if start >= free:
            words[start : start + len(text)] = text
            free = start + len(text) + 1
    return [" " * left + "".join(rule), "".join(words)]


def _legend(scatter: Scatter, signs: dict[str, str], width: int) -> list[str]:
    marks = scatter.marks
    if len(marks) > len(_LETTERS):
        lines = [f"{_SIGNS[kind]} {kind}: {words}" for kind, words in scatter.kinds.items()]
        listed = [mark for mark in marks if mark.kind == FRONT]
    else:
        lines, listed = [], list(marks)
    lines += [
        f"{signs[mark.key]} {mark.label}{f' ({mark.mean_of})' if mark.mean_of else ''}: {_score_words(mark)}, "
        f"{'' if mark.kwh_high is not None else '≥ '}{formats.energy(mark.kwh)}, {mark.standing}"
        for mark in listed
    ]
    lines += [f"not drawn: {label}: {reason}" for label, reason in scatter.outside]
    return [shorten(line, width) for line in lines]


def _score_words(mark: Mark) -> str:
    """Return a run's score, or a mean with its interval."""
    value = formats.score_value(mark.score)
    return (
        f"{value} ± {formats.score_value(mark.score_high - mark.score)}" if mark.mean_of and mark.score_high else value
    )
