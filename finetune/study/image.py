"""The charts of a study as a PNG or PDF, drawn by matplotlib from the same places as the SVG."""

from __future__ import annotations

from typing import Any

from finetune.runs.page.image import POINT, add_canvas, draw_axes, image, light_colours, literal
from finetune.study.charts import figure
from finetune.study.findings import Findings

_DASHES: tuple[Any, ...] = ("-", (0, (8, 3)), (0, (2, 3)), (0, (10, 3, 2, 3)))


def study_image(found: Findings, form: str) -> bytes:
    """Return the charts as `png` (300 dots an inch) or `pdf`; raises FinetuneError without matplotlib."""
    content, colours = figure(found), light_colours()
    width, height = content["width"], content["height"]

    def draw(paper: Any) -> None:
        whole = add_canvas(paper, (0, 0, 1, 1), width, height)
        for panel in content["panels"]:
            size = panel["width"], panel["height"]
            place = (panel["at"] / width, 1 - size[1] / height, size[0] / width, size[1] / height)
            canvas = add_canvas(paper, place, *size)
            draw_axes(canvas, panel, colours)
            for series in panel["series"]:
                _draw_series(canvas, series, colours)
        for entry in content["legend"]:
            x, y, colour = entry["x"], entry["y"] + 5, colours[f"c{entry['colour']}"]
            whole.plot([x, x + 22], [y, y], color=colour, lw=2 * POINT, ls=_dash(entry["colour"]))
            whole.plot([x + 11], [y], "o", color=colour, ms=7 * POINT)
            whole.text(x + 28, y + 4, literal(entry["name"]), color=colours["soft"])
        for line in content["lines"]:
            whole.text(2, line["y"], literal(line["words"]), color=colours["soft"])

    return image(draw, width, height, form)


def _draw_series(canvas: Any, series: dict[str, Any], colours: dict[str, str]) -> None:
    colour = colours[f"c{series['colour']}"]
    if series["path"]:
        x, y = zip(*(map(float, place.split(",")) for place in series["path"].split()), strict=True)
        canvas.plot(x, y, color=colour, lw=2 * POINT, ls=_dash(series["colour"]))
    for point in series["points"]:
        if point["low_y"] is not None:
            canvas.plot([point["x"]] * 2, [point["low_y"], point["high_y"]], color=colour, lw=1.5 * POINT, alpha=0.6)
        canvas.plot([point["x"]], [point["y"]], "o", color=colour, ms=9 * POINT, mec="none")


def _dash(colour: int) -> Any:
    return _DASHES[(colour - 1) % len(_DASHES)]
