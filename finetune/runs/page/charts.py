"""Where everything of a chart lies on its drawing; how it looks is left to the templates."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from finetune.runs import formats
from finetune.runs.axes import Axis, energy_axis, score_axis
from finetune.runs.differences import flatten
from finetune.runs.record import Run, as_mapping, as_number
from finetune.runs.scatter import DOMINATED, FRONT, NOT_RANKED, Mark, Scatter, axis_words, front_line, mark_words
from finetune.runs.tables import shorten, text_width
from finetune.text import plural

Section = dict[str, Any]

LABELLED = 14
"""With so many runs or fewer each has its name in the plot; with more, only those of the front have."""
COLOURS = 8
CURVE_POINTS = 48
_LETTER = 6.6  # width of a letter of 12 units, on the safe side
_DRAWN_LAST = (NOT_RANKED, DOMINATED)


@dataclass(frozen=True)
class Frame:
    """Size of a drawing and the room that its axes take, in units of the drawing."""

    width: float
    height: float
    left: float = 62
    right: float = 18
    top: float = 30
    bottom: float = 50

    @property
    def box(self) -> Section:
        """Return the plotting area."""
        return {
            "left": self.left,
            "right": self.width - self.right,
            "top": self.top,
            "bottom": self.height - self.bottom,
        }


WIDE, NARROW = Frame(900, 470), Frame(380, 400, left=50, right=10)


def pareto_chart(scatter: Scatter, frame: Frame) -> Section:
    """Return the plot of score against energy: marks with bands, the front, axes."""
    unit, factor = formats.energy_unit(mark.kwh for mark in scatter.marks)
    x, y = _axes(
        frame,
        [value * factor for mark in scatter.marks for value in (mark.kwh, mark.kwh_low, mark.kwh_high) if value],
        [
            value
            for mark in scatter.marks
            for value in (mark.score, mark.score_low, mark.score_high)
            if value is not None
        ],
    )
    placed = [_placed(mark, x, y, factor, frame) for mark in scatter.marks]
    wanted = [mark for mark in placed if len(placed) <= LABELLED or mark["kind"] == FRONT]
    _label(wanted, placed, frame)
    for mark in placed:
        mark["tab"] = mark in wanted
    energy_words, score_words = axis_words(scatter)
    return {
        **drawing(frame, x, y, f"{energy_words}, {unit}", score_words),
        "marks": sorted(
            placed, key=lambda mark: -_DRAWN_LAST.index(mark["kind"]) if mark["kind"] in _DRAWN_LAST else 1
        ),
        "front": _step_path([(x.at(mark.kwh * factor), y.at(mark.score)) for mark in front_line(scatter)], frame),
        "has_bands": len(placed) <= 60,
    }


def curve_chart(curves: Sequence[Section], metric: str, frame: Frame) -> Section:
    """Return the plot of learning curves against energy; `curves` as `learning_curve` makes them."""
    unit, factor = formats.energy_unit(kwh for curve in curves for kwh, _ in curve["points"])
    x, y = _axes(
        frame,
        [kwh * factor for curve in curves for kwh, _ in curve["points"]],
        [score for curve in curves for _, score in curve["points"]],
    )
    drawn = []
    for curve in curves:
        places = [(x.at(kwh * factor), y.at(score)) for kwh, score in curve["points"]]
        drawn.append({**curve, "places": places, "path": " ".join(f"{a:.1f},{b:.1f}" for a, b in places)})
    title = f"energy of the run until then, {unit}"
    coloured_last = sorted(drawn, key=lambda curve: bool(curve["colour"]))
    return {**drawing(frame, x, y, title, f"{metric} on validation"), "curves": coloured_last}


def curves_plot(curves: Sequence[Section], metric: str, set_name: str, without: int) -> Section:
    """Return a plot of learning curves with its legend; `without` runs have no curve."""
    legend = {curve["legend"]: curve["colour"] for curve in curves if curve["colour"]}
    grey = sum(not curve["colour"] for curve in curves)
    words = f"{plural(len(curves), 'run')}" + (f", {grey} of them in grey" if grey else "")
    if without:
        words += f"; {plural(without, 'run')} without two evaluations left out"
    wide, narrow = (curve_chart(curves, metric, frame) for frame in (WIDE, NARROW))
    return {"set": set_name, "words": f"{words}.", "legend": list(legend.items()), "wide": wide, "narrow": narrow}


def learning_curve(run: Run, label: str, metric: str, colour: int, legend: str | None = None) -> Section | None:
    """Return a run's validation scores against its cumulative energy; None when its timeline has no two of them.

    `colour` is 1 to 8, 0 for the grey of the many; `legend` is what the legend calls it, its label by default.
    """
    points = []
    for entry in run.timeline:
        scores = flatten(as_mapping(entry.get("metrics")))
        kwh = as_number(entry.get("energy_kwh"))
        score = as_number(scores.get(metric, scores.get(f"{metric}.value")))
        if kwh is not None and score is not None and kwh > 0:
            points.append((kwh, score))
    if len(points) < 2:
        return None
    words = f"{label}: {formats.score_value(points[-1][1])} after {formats.energy(points[-1][0])}"
    return {"id": run.run_id, "legend": legend or label, "colour": colour, "points": _thinned(points), "tip": words}


def stacked_bar(parts: Mapping[str, float | None], longest_kwh: float, colours: Sequence[str]) -> list[Section]:
    """Return the segments of a bar, in thousandths of the longest bar; what was not measured has none.

    A segment's colour is the place (from 1) of its name in `colours`.
    """
    segments, start = [], 0.0
    for name, kwh in parts.items():
        if kwh is not None and kwh > 0:
            width = 1000 * kwh / longest_kwh
            tip = f"{name}: {formats.energy(kwh)}"
            segments.append({"name": name, "x": start, "width": width, "tip": tip, "colour": colours.index(name) + 1})
            start += width
    return segments


def _axes(frame: Frame, energies: Iterable[float], scores: Iterable[float]) -> tuple[Axis, Axis]:
    box = frame.box
    ticks = 7 if frame.width > 600 else 4
    return (
        energy_axis(list(energies), box["left"], box["right"], ticks),
        score_axis(list(scores), box["bottom"], box["top"]),
    )


def drawing(frame: Frame, x: Axis, y: Axis, x_title: str, y_title: str) -> Section:
    """Return what every chart has: its size and its axes with their ticks and titles."""
    titles = (x_title + (" (logarithmic)" if x.is_log else ""), y_title)
    return {
        "width": frame.width,
        "height": frame.height,
        "box": frame.box,
        "x_ticks": x.ticks,
        "y_ticks": y.ticks,
        "x_title": titles[0],
        "y_title": titles[1],
    }


def _placed(mark: Mark, x: Axis, y: Axis, factor: float, frame: Frame) -> Section:
    has_interval = mark.score_low is not None and mark.score_high is not None
    return {
        "id": mark.key,
        "label": mark.label,
        "kind": mark.kind,
        "x": x.at(mark.kwh * factor),
        "y": y.at(mark.score),
        "low_x": x.at(mark.kwh_low * factor),
        "high_x": frame.box["right"] if mark.kwh_high is None else x.at(mark.kwh_high * factor),
        "is_bound": mark.kwh_high is None,
        "low_y": y.at(mark.score_low) if has_interval and mark.score_low is not None else None,
        "high_y": y.at(mark.score_high) if has_interval and mark.score_high is not None else None,
        "tip": mark_words(mark),
        "words": None,
    }


def _label(wanted: Sequence[Section], marks: Sequence[Section], frame: Frame) -> None:
    """Give marks their names where these hide neither another mark nor another name."""
    taken = [(mark["x"] - 6, mark["y"] - 6, mark["x"] + 6, mark["y"] + 6) for mark in marks]
    box, longest = frame.box, 30 if frame.width > 600 else 18
    for mark in wanted:
        text = _shortened(mark["label"], longest)
        width = _LETTER * text_width(text)
        for anchor, left, base in (
            ("start", mark["x"] + 9, mark["y"] - 8),
            ("end", mark["x"] - 9 - width, mark["y"] - 8),
            ("start", mark["x"] + 9, mark["y"] + 17),
            ("end", mark["x"] - 9 - width, mark["y"] + 17),
        ):
            place = (left, base - 11, left + width, base + 3)
            inside = left >= box["left"] and left + width <= frame.width and box["top"] - 8 <= base <= box["bottom"]
            if inside and not any(_overlap(place, other) for other in taken):
                taken.append(place)
                mark["words"] = {
                    "text": text,
                    "x": left if anchor == "start" else left + width,
                    "y": base,
                    "anchor": anchor,
                }
                break


def _shortened(label: str, longest: int) -> str:
    """Cut a label in its middle: what tells runs apart stands at the end."""
    tail = longest // 2 - 1
    return label if text_width(label) <= longest else f"{shorten(label[:-tail], longest - tail)}{label[-tail:]}"


def _overlap(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _step_path(places: Sequence[tuple[float, float]], frame: Frame) -> str:
    """Return the front as a staircase: what is reached is kept until a dearer run reaches more."""
    if not places:
        return ""
    path = f"M{places[0][0]:.1f},{places[0][1]:.1f}"
    path += "".join(f"H{x:.1f}V{y:.1f}" for x, y in places[1:])
    return f"{path}H{frame.box['right']:.1f}"


def _thinned(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return at most CURVE_POINTS points of a curve, the first and the last among them."""
    if len(points) <= CURVE_POINTS:
        return points
    last = len(points) - 1
    return [points[round(number * last / (CURVE_POINTS - 1))] for number in range(CURVE_POINTS)]
