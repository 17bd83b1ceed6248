"""The words of `finetune sweep` → a worker, and its report."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from finetune.console import say
from finetune.runs.record import slug
from finetune.sweep.definition import Sweep, read_sweep
from finetune.sweep.forecast import forecaster
from finetune.sweep.report import make_report, print_report
from finetune.sweep.store import open_store
from finetune.sweep.trial import Conditions
from finetune.sweep.worker import Worker, work
from finetune.training.launch import launch_until_told
from finetune.training.words import Request


@dataclass(frozen=True)
class SweepRequest:
    """What the command line asks for; `of_runs` are the options that every trial's run is started with."""

    path: Path
    of_runs: Request
    allow_shared: bool = False


def sweep_folder(sweep: Sweep) -> Path:
    """Return where a sweep keeps its journal: beside the runs, hidden from the listing of runs."""
    return Path(sweep.loaded.recipe.output_dir) / ".sweeps" / slug(sweep.name)


def start(request: SweepRequest, as_json: bool) -> int:
    """Work on a sweep until it is done, print it, and return the exit code; raises FinetuneError."""
    sweep = read_sweep(request.path, request.of_runs.output_dir)
    for note in sweep.loaded.notes:
        say(f"note: {note}")
    store = open_store(sweep, sweep_folder(sweep))
    worker = Worker(
        store, Conditions(request.of_runs, request.allow_shared), launch_until_told, forecaster(request.of_runs)
    )
    ending = work(worker)
    if ending.reason:
        say(ending.reason)
    print_report(make_report(sweep, store.entries()), ending.reason, as_json)
    return ending.code
