"""The plot of score against energy as a PNG or PDF, drawn by matplotlib from the same places as the SVG."""

import io
from collections.abc import Callable
from typing import Any

from finetune.errors import FinetuneError
from finetune.runs.page.charts import WIDE, pareto_chart
from finetune.runs.page.render import palette
from finetune.runs.scatter import DOMINATED, FRONT, NOT_RANKED, UNDECIDED, Scatter

_PER_INCH = 128  # units of a drawing: 7 inches wide, as a text column of a paper
POINT = 72 / _PER_INCH
_SHAPES = {FRONT: ("o", 12), UNDECIDED: ("o", 11), DOMINATED: ("D", 7), NOT_RANKED: ("s", 9)}


def pareto_image(scatter: Scatter, form: str) -> bytes:
    """Return the plot as `png` (300 dots an inch) or `pdf`; raises FinetuneError without matplotlib."""
    chart, colours = pareto_chart(scatter, WIDE), light_colours()

    def draw(figure: Any) -> None:
        canvas = add_canvas(figure, (0, 0, 1, 1), chart["width"], chart["height"])
        draw_axes(canvas, chart, colours)
        _draw_front(canvas, chart, colours)
        for mark in chart["marks"]:
            _draw_mark(canvas, mark, colours, chart["has_bands"])
        _draw_legend(canvas, chart, colours)

    return image(draw, chart["width"], chart["height"], form)


def image(draw: Callable[[Any], None], width: float, height: float, form: str) -> bytes:
    """Return what `draw` puts on a figure of so many units; raises FinetuneError without matplotlib."""
    try:
        from matplotlib import rc_context
        from matplotlib.figure import Figure
    except ImportError as error:
        raise FinetuneError(
            f"a plot as {form} is drawn by matplotlib, which is not installed",
            "pip install 'finetune[plot]', or name a file that ends in .svg: that needs nothing more.",
        ) from error
    output = io.BytesIO()
    with rc_context({"pdf.fonttype": 42, "font.size": 12 * POINT}):  # letters as letters, which journals ask for
        figure = Figure(figsize=(width / _PER_INCH, height / _PER_INCH))
        draw(figure)
        figure.savefig(output, format=form, dpi=300, metadata={"CreationDate": None} if form == "pdf" else None)
    return output.getvalue()


def add_canvas(figure: Any, place: tuple[float, float, float, float], width: float, height: float) -> Any:
    """Return a part of a figure (left, bottom, width, height as shares) with the coordinates of a drawing."""
    canvas = figure.add_axes(place, xlim=(0, width), ylim=(height, 0))
    canvas.set_axis_off()
    return canvas


def light_colours() -> dict[str, str]:
    """Return the colours of the light theme by name."""
    return {name: light for name, (light, _) in palette().items()}


def draw_axes(canvas: Any, chart: dict[str, Any], colours: dict[str, str]) -> None:
    """Draw grid, ticks and titles of a chart."""
    box, soft = chart["box"], colours["soft"]
    for place, words in chart["x_ticks"]:
        canvas.plot([place, place], [box["top"], box["bottom"]], color=colours["line"], lw=POINT)
        canvas.text(place, box["bottom"] + 18, words, color=soft, ha="center")
    for place, words in chart["y_ticks"]:
        canvas.plot([box["left"], box["right"]], [place, place], color=colours["line"], lw=POINT)
        canvas.text(box["left"] - 8, place + 4, words, color=soft, ha="right")
    canvas.plot([box["left"], box["right"]], [box["bottom"]] * 2, color=soft, lw=POINT)
    canvas.text(box["right"], chart["height"] - 8, chart["x_title"], color=soft, ha="right")
    canvas.text(2, 14, literal(chart["y_title"]), color=soft)


def _draw_front(canvas: Any, chart: dict[str, Any], colours: dict[str, str]) -> None:
    box = chart["box"]
    front = sorted((mark["x"], mark["y"]) for mark in chart["marks"] if mark["kind"] == FRONT)
    if front:
        x, y = zip(*front, (box["right"], front[-1][1]), strict=True)
        canvas.plot(x, y, drawstyle="steps-post", color=colours["accent"], lw=1.5 * POINT, ls=":")


def _draw_mark(canvas: Any, mark: dict[str, Any], colours: dict[str, str], is_roomy: bool) -> None:
    accent = colours["accent"] if mark["kind"] in (FRONT, UNDECIDED) else colours["soft"]
    if is_roomy or mark["kind"] == FRONT:
        line = {"color": accent, "lw": 1.5 * POINT, "alpha": 0.55}
        canvas.plot([mark["low_x"], mark["high_x"]], [mark["y"]] * 2, **line)
        if mark["is_bound"]:
            canvas.plot([mark["high_x"]], [mark["y"]], marker=">", ms=7 * POINT, **line)
        if mark["low_y"] is not None:
            canvas.plot([mark["x"]] * 2, [mark["low_y"], mark["high_y"]], **line)
    _draw_symbol(canvas, mark["kind"], mark["x"], mark["y"], colours, 1.0 if is_roomy else 0.65)
    if mark["words"]:
        words = mark["words"]
        side = {"start": "left", "end": "right"}[words["anchor"]]
        behind = {"fc": colours["surface"], "ec": "none", "pad": 0.6, "alpha": 0.8}  # else bands run through names
        canvas.text(words["x"], words["y"], literal(words["text"]), color=colours["text"], ha=side, bbox=behind)


def _draw_symbol(canvas: Any, kind: str, x: float, y: float, colours: dict[str, str], scale: float = 1.0) -> None:
    shape, size = _SHAPES[kind]
    fill = {FRONT: colours["accent"], DOMINATED: colours["grey"]}.get(kind, colours["surface"])
    edge = {FRONT: colours["surface"], UNDECIDED: colours["accent"], DOMINATED: colours["surface"]}.get(
        kind, colours["grey"]
    )
    width = (2.5 if kind == UNDECIDED else 1.2) * POINT * scale
    canvas.plot([x], [y], marker=shape, ms=size * POINT * scale, mfc=fill, mec=edge, mew=width, zorder=3)


def _draw_legend(canvas: Any, chart: dict[str, Any], colours: dict[str, str]) -> None:
    kinds = [kind for kind in _SHAPES if any(mark["kind"] == kind for mark in chart["marks"])]
    for number, kind in enumerate(kinds):
        x, y = chart["box"]["left"] + 110 * number, chart["height"] - 12
        _draw_symbol(canvas, kind, x, y, colours)
        canvas.text(x + 10, y + 4, kind, color=colours["soft"])


def literal(text: str) -> str:
    """Keep matplotlib from reading dollar signs as mathematics."""
    return text.replace("$", r"\$")
