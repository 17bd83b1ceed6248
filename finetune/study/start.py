"""The words of `finetune study` → its runs, and its report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from finetune.console import say
from finetune.recipe.shipped import find_study
from finetune.runs.exports import written_file
from finetune.study.definition import Study, read_study
from finetune.study.findings import Findings, findings
from finetune.study.image import study_image
from finetune.study.outlook import plan_text
from finetune.study.page import study_html, study_svg
from finetune.study.plan import read_state, require_different_rows, require_same_settings
from finetune.study.report import written
from finetune.study.results import make_results
from finetune.study.worker import work
from finetune.sweep.trial import Conditions
from finetune.training.launch import launch_until_told
from finetune.training.words import Request


@dataclass(frozen=True)
class StudyRequest:
    """What the command line asks for; `of_runs` are the options that every run is started with."""

    reference: str
    settings: Sequence[str]
    of_runs: Request
    allow_shared: bool = False


def plan(request: StudyRequest) -> str:
    """Return what a study would do, without doing it; raises FinetuneError."""
    study = _read(request)
    state = read_state(study, ())
    require_same_settings(state)
    require_different_rows(state)
    return plan_text(study, state)


def start(request: StudyRequest, form: str) -> tuple[Findings, int]:
    """Make the runs that are missing, print the study, and return it with the exit code; raises FinetuneError."""
    study = _read(request)
    for note in study.loaded.notes:
        say(f"note: {note}")
    ending = work(study, Conditions(request.of_runs, request.allow_shared), launch_until_told)
    if ending.reason:
        say(ending.reason)
    found = findings(make_results(study, read_state(study), ending.failed))
    print(written(found, form))
    return found, ending.code


def write_files(found: Findings, html: Path | None, plot: Path | None) -> list[str]:
    """Write the page and the charts that are asked for, and return a line for each."""
    lines = [written_file(html, study_html(found))] if html is not None else []
    if plot is not None:
        form = plot.suffix.lower().removeprefix(".")
        lines.append(written_file(plot, study_svg(found) if form == "svg" else study_image(found, form)))
    return lines


def _read(request: StudyRequest) -> Study:
    return read_study(find_study(request.reference), request.settings, request.of_runs.output_dir)
