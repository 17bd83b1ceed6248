"""Comparisons and runs as files: pages and plots."""

from pathlib import Path
from typing import Any

from finetune.errors import FinetuneError
from finetune.runs.comparison import Comparison
from finetune.runs.files import write_atomically
from finetune.runs.formats import file_size
from finetune.runs.mistakes import Findings
from finetune.runs.record import Run
from finetune.runs.scatter import Scatter, scatters
from finetune.text import join_words

PAGE_ENDINGS = (".html", ".htm")
PLOT_ENDINGS = (".svg", ".png", ".pdf")


def check_target(option: str, path: Path | None, endings: tuple[str, ...]) -> None:
    """Raise FinetuneError when a file that is to be written has another ending than its kind, or no folder."""
    if path is None:
        return
    if path.suffix.lower() not in endings:
        raise FinetuneError(
            f"{option} {path}: the file must end in {join_words(endings, 'or')}",
            f"For example {option} {path.parent / (path.stem or 'page')}{endings[0]}",
        )
    if not path.parent.is_dir():
        raise FinetuneError(f"{option} {path}: no folder {path.parent}", f"mkdir -p {path.parent}")


def write_comparison_page(comparison: Comparison, notes: tuple[str, ...], path: Path) -> str:
    """Write the page of a comparison and return a line that says so."""
    from finetune.runs.page.render import comparison_html

    return written_file(path, comparison_html(comparison, notes))


def write_run_page(run: Run, path: Path) -> str:
    """Write the page of a run and return a line that says so."""
    from finetune.runs.page.render import run_html

    return written_file(path, run_html(run))


def write_evaluation_page(run: Run, content: dict[str, Any], findings: Findings, path: Path) -> str:
    """Write the page of an evaluation on new rows and return a line that says so."""
    from finetune.runs.page.render import evaluation_html

    return written_file(path, evaluation_html(run, content, findings))


def write_plot(comparison: Comparison, path: Path) -> str:
    """Write the plot of score against energy, of the largest set, and return a line that says so.

    Raises FinetuneError when no run has both a score and an energy, or when what draws PNG and PDF is not installed.
    """
    first, *others = plots(comparison)
    beyond = [scatter.run_set.name for scatter in others]
    words = (
        f"; it shows set {first.run_set.name}, not {join_words(beyond, 'and')}: other data or metric" if beyond else ""
    )
    form = path.suffix.lower().removeprefix(".")
    if form == "svg":
        from finetune.runs.page.render import pareto_svg

        return written_file(path, pareto_svg(first)) + words
    from finetune.runs.page.image import pareto_image

    return written_file(path, pareto_image(first, form)) + words


def plots(comparison: Comparison) -> tuple[Scatter, ...]:
    """Return the plots of a comparison, at least one; raises FinetuneError when there is nothing to draw."""
    found = scatters(comparison)
    if not found:
        raise FinetuneError(
            "nothing to plot: no run has both a score and the energy of train, evaluate and save",
            "finetune show RUN says what is missing.",
        )
    return found


def written_file(path: Path, content: str | bytes) -> str:
    """Write a file and return a line that says so."""
    write_atomically(path, content)
    return f"wrote {path} ({file_size(path.stat().st_size)})"
