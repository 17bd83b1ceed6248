"""Masks as an image: SVG from a template, PNG by matplotlib from the same places."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from finetune.errors import FinetuneError
from finetune.inspection.drawing import cells
from finetune.inspection.inspect import Inspection
from finetune.runs.files import write_atomically
from finetune.runs.formats import file_size
from finetune.runs.tables import shorten

ENDINGS = (".svg", ".png")
_CELL, _GAP, _LEFT, _TOP, _BOTTOM = 22, 60, 24, 84, 44
_NARROWEST = 290  # a title's room
_TITLE_LETTER, _CAPTION_LETTER = 11, 8  # widths, on the safe side
_CAPTION = "a row looks, a column is seen; the first token is at the top left"
_PER_INCH = 100

Section = dict[str, Any]


def write_picture(found: Inspection, path: Path) -> str:
    """Write who may attend to whom as .svg or .png and return a line that says so.

    Raises FinetuneError for a model without masks, and for a PNG without matplotlib.
    """
    if not found.masks:
        raise FinetuneError(
            f"--plot: {found.source.reference} has no masks to draw: {found.why_none}", "Leave --plot out."
        )
    chart = places(found)
    write_atomically(path, _png(chart) if path.suffix.lower() == ".png" else _svg(chart))
    return f"wrote {path} ({file_size(path.stat().st_size)})"


def places(found: Inspection) -> Section:
    """Return where everything lies on the drawing: panels side by side, a square for each pair of tokens."""
    panels, left = [], _LEFT
    for mask in found.masks:
        rows = cells(mask)
        squares = [
            {"x": left + _CELL * column, "y": _TOP + _CELL * row, "on": allowed}
            for row, line in enumerate(rows)
            for column, allowed in enumerate(line)
        ]
        panels.append({"x": left, "title": mask.title, "squares": squares})
        left += max(_CELL * len(rows[0]), _NARROWEST) + _GAP
    height = _TOP + _CELL * max(len(cells(mask)) for mask in found.masks) + _BOTTOM
    title = shorten(f"{found.source.reference}: {found.kind}", 70)
    words = max(_TITLE_LETTER * len(title), _CAPTION_LETTER * len(_CAPTION))
    width = max(left - _GAP, _LEFT + words) + _LEFT
    return {"width": width, "height": height, "panels": panels, "title": title, "cell": _CELL - 2,
            "caption": _CAPTION}  # fmt: skip


def _svg(chart: Section) -> str:
    from finetune.runs.page.render import palette, svg

    return svg("masks.svg", chart=chart, colours={name: light for name, (light, _) in palette().items()})


def _png(chart: Section) -> bytes:
    try:
        from matplotlib.figure import Figure
        from matplotlib.patches import Rectangle
    except ImportError as error:
        raise FinetuneError(
            "a picture as png is drawn by matplotlib, which is not installed",
            "pip install 'finetune[plot]', or name a file that ends in .svg: that needs nothing more.",
        ) from error
    from finetune.runs.page.render import palette

    colours = {name: light for name, (light, _) in palette().items()}
    output = io.BytesIO()
    figure = Figure(figsize=(chart["width"] / _PER_INCH, chart["height"] / _PER_INCH), facecolor=colours["surface"])
    canvas = figure.add_axes((0, 0, 1, 1), xlim=(0, chart["width"]), ylim=(chart["height"], 0))
    canvas.set_axis_off()
    words: Section = {"color": colours["text"], "parse_math": False}
    canvas.text(_LEFT, 30, chart["title"], fontsize=12, **words)
    canvas.text(_LEFT, chart["height"] - 14, chart["caption"], fontsize=8, **words)
    for panel in chart["panels"]:
        canvas.text(panel["x"], _TOP - 12, panel["title"], fontsize=9, **words)
        for square in panel["squares"]:
            colour = colours["accent"] if square["on"] else colours["line"]
            canvas.add_patch(Rectangle((square["x"], square["y"]), chart["cell"], chart["cell"], color=colour, lw=0))
    figure.savefig(output, format="png", dpi=200)
    return output.getvalue()
