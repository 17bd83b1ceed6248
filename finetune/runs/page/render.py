"""Pages and drawings from templates: one file each, that needs nothing besides itself.

A browser that is asked to enforces it: the page's policy lets no script or style run but these two, by their hash, and
loads nothing.
"""

import base64
import hashlib
import re
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from finetune import __version__
from finetune.runs.comparison import Comparison
from finetune.runs.files import scrub
from finetune.runs.mistakes import Findings
from finetune.runs.page.charts import WIDE, pareto_chart
from finetune.runs.page.comparison_page import comparison_content
from finetune.runs.page.evaluation_page import evaluation_content
from finetune.runs.page.run_page import run_content
from finetune.runs.record import Run, utc_now
from finetune.runs.scatter import Scatter
from finetune.runs.tables import plain

TEMPLATES = Path(__file__).parent / "templates"
_COLOUR = re.compile(r"--([\w-]+): light-dark\((#\w{6}), (#\w{6})\);")


def comparison_html(comparison: Comparison, notes: tuple[str, ...] = ()) -> str:
    """Return a comparison as one HTML page; `notes` are those on runs and folders that were left out."""
    return page("comparison.html", comparison_content(comparison, notes))


def run_html(run: Run) -> str:
    """Return all about one run as one HTML page."""
    return page("run.html", run_content(run))


def evaluation_html(run: Run, content: dict[str, Any], findings: Findings) -> str:
    """Return an evaluation of a run's model on new rows as one HTML page."""
    return page("evaluation.html", evaluation_content(run, content, findings))


def pareto_svg(scatter: Scatter) -> str:
    """Return the plot of score against energy as an SVG drawing, in colours that do not depend on a theme."""
    template = _environment().get_template("figure.svg")
    return (
        template.render(chart=pareto_chart(scatter, WIDE), kinds=list(scatter.kinds), style=figure_style(), places={})
        + "\n"
    )


def figure_style() -> Markup:
    """Return the style of a drawing that stands alone: the light colours, whatever theme its reader has."""
    colours = {name: light for name, (light, _) in palette().items()}
    return Markup(re.sub(r"var\(--([\w-]+)\)", lambda found: colours[found[1]], _text("chart.css")))


def svg(template: str, **content: Any) -> str:
    """Return a drawing from one of the templates."""
    return _environment().get_template(template).render(**content) + "\n"


def palette() -> dict[str, tuple[str, str]]:
    """Return the colours of the page by name: in the light theme, in the dark one."""
    return {found[1]: (found[2], found[3]) for found in _COLOUR.finditer(_text("page.css"))}


def page(template: str, content: dict[str, Any]) -> str:
    """Return a page from one of the templates, with the style and the script that all pages share."""
    style, script = _text("chart.css") + _text("page.css"), _text("page.js")
    policy = (
        f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'; base-uri 'none'; "
        "form-action 'none'"
    )
    # Our own style and script are not escaped; all else is.
    own = {"style": Markup(style), "script": Markup(script), "policy": policy}
    return _environment().get_template(template).render(**content, **own, made_at=utc_now(), version=__version__)


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_clean,
    )
    environment.filters["n"] = _number
    return environment


def _clean(value: Any) -> Any:
    """Take home paths, tokens and what steers a terminal or the direction of writing out of every text."""
    return plain(scrub(value)) if isinstance(value, str) and not isinstance(value, Markup) else value


def _number(value: float) -> str:
    """Return a place on a drawing with one decimal at most."""
    return f"{value:.1f}".removesuffix(".0")


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _text(name: str) -> str:
    return (TEMPLATES / name).read_text(encoding="utf-8")
