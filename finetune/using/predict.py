"""`finetune predict`: the model of a finished run on rows of a file, a pipe or a folder."""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TextIO

from finetune.console import progress, reader_is_gone, say, someone_watches
from finetune.data.files import format_of
from finetune.data.rows import RowSource, open_rows
from finetune.emissions.meter import EnergyMeter
from finetune.errors import FinetuneError
from finetune.evaluation.predict import Predictor
from finetune.evaluation.predict_file import Answer, Finished, answer_batch, open_finished, parse_columns, read_inputs
from finetune.evaluation.predict_file import roles_in as roles_of
from finetune.runs.record import find_run, read_run
from finetune.text import plural
from finetune.training.hardware import Hardware
from finetune.using.answers import check_output, choose_format, open_output, writer_of
from finetune.using.energy import metered, spent_words
from finetune.using.model import open_predictor

_SHOWN_ROWS = 10
BESIDE = ".predictions"
"""What the names of answers to a folder's files end in, before the ending that tells their format."""


@dataclass(frozen=True)
class Request:
    """What the command line asks for.

    `file` is a path (of a folder: all files in it) or - for stdin, `columns` are role=name words.
    """

    run: str
    file: str
    output_dir: Path
    output: Path | None = None
    format: str | None = None
    batch_size: int | None = None
    columns: Sequence[str] = ()
    top_k: int | None = None
    country: str | None = None
    region: str | None = None


@dataclass
class _Work:
    """The model at work, what is asked of it, and how far it has come."""

    finished: Finished
    predictor: Predictor
    meter: EnergyMeter
    columns: Mapping[str, str]
    format: str
    began: float
    rows: int = 0


def predict(request: Request) -> None:
    """Answer every row and write the answers as they come; raises FinetuneError for what the user can mend.

    Nothing is kept: a batch is read, answered, written and flushed. An output file appears whole or not at all. A
    reader that has seen enough (`| head`) ends it quietly.
    """
    finished = open_finished(read_run(find_run(request.run, request.output_dir)))
    columns = parse_columns(request.columns, finished)
    format = choose_format(request.format, request.output)
    _check_top_k(request.top_k, finished, format)
    source = Path(request.file) if request.file != "-" else None
    files = _files_of(source, request.output, format) if source is not None and source.is_dir() else None
    opened = None
    if files is None:
        check_output(request.output, source)
        opened = open_rows(source or _stdin())
    with metered(finished.run, request.country, request.region) as meter:
        with meter.phase("load"):
            predictor, hardware = open_predictor(finished, request.batch_size)
            predictor = replace(predictor, context=replace(predictor.context, top_k=request.top_k))
            work = _Work(finished, predictor, meter, columns, format, time.perf_counter())
        ended = True
        if opened is not None:
            ended = _answer_source(work, opened, request.output)
        faults = _answer_files(work, files or {})
    if ended:
        _say_what_it_took(work, hardware)
    if faults:
        raise FinetuneError(
            f"{plural(len(faults), 'file')} of {len(files or ())} could not be answered:\n  " + "\n  ".join(faults),
            "The others are answered.",
        )


def _check_top_k(top_k: int | None, finished: Finished, format: str) -> None:
    task, problem_type = finished.task, finished.run.dataset.get("problem_type")
    if top_k is None:
        return
    if problem_type not in task.ranked:
        raise FinetuneError(
            f"--top-k: {task.name} ({problem_type}) does not rank its answers", "Leave it out: each row has one answer."
        )
    if format == "csv":
        raise FinetuneError("--top-k: a csv has one answer a row", "Use --format jsonl.")


def _answer_source(work: _Work, source: RowSource, target: Path | None) -> bool:
    """Answer the rows of a source; False: nobody reads the answers any more."""
    unanswered = _Unanswered()
    done = 0
    with open_output(target) as output, _progress(source.total, output) as advance:
        write = writer_of(work.format, output, roles_of(source, work.finished, work.columns))
        for batch in read_inputs(source, work.finished, work.columns, work.predictor):
            for note in batch.notes:
                say(f"note: {note}")
            with work.meter.phase("evaluate"):
                answers = answer_batch(work.predictor, batch)
            write(answers)
            output.flush()
            if reader_is_gone(output):
                return False
            unanswered.add(answers)
            done += len(answers)
            advance(done, "")
    work.rows += done
    unanswered.report()
    return True


def _files_of(folder: Path, output: Path | None, format: str) -> dict[Path, Path]:
    """Return the data files of a folder, not of those below it, and where the answers to each go.

    That is beside it, or in the folder `output`. Raises FinetuneError when there is none.
    """
    if output is not None and not output.is_dir():
        raise FinetuneError(
            f"--output {output}: the answers to a folder go into a folder", f"mkdir -p {output}, or leave it out."
        )
    found = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    data = [path for path in found if format_of(path) is not None and Path(path.stem).suffix != BESIDE]
    left = [path.name for path in found if path not in data and Path(path.stem).suffix != BESIDE]
    if left:
        say(f"note: left out, no data by their names: {', '.join(left[:8])}{', …' if len(left) > 8 else ''}")
    if not data:
        raise FinetuneError(
            f"{folder}: holds no data file", "csv, tsv, json, jsonl, parquet, arrow, conll and txt are."
        )
    return {path: (output or folder) / f"{path.name}{BESIDE}.{format}" for path in data}


def _answer_files(work: _Work, files: Mapping[Path, Path]) -> list[str]:
    """Answer the files of a folder, and return what is wrong with those that could not be."""
    faults = []
    for path, target in files.items():
        try:
            check_output(target, path)
            before = work.rows
            _answer_source(work, open_rows(path), target)
            say(f"{path} → {target} ({plural(work.rows - before, 'row')})")
        except FinetuneError as error:
            faults.append(error.message)
    return faults


def _say_what_it_took(work: _Work, hardware: Hardware) -> None:
    if not work.rows:
        say("note: nothing is answered: the input has no rows")
        return
    seconds = time.perf_counter() - work.began
    say(f"{plural(work.rows, 'row')} in {seconds:.1f} s, {work.rows / seconds:,.0f} rows/s on {_where(hardware)}")
    say(spent_words(work.meter.summary(), work.rows, work.finished.run))


def _where(hardware: Hardware) -> str:
    precision = hardware.mixed_precision
    return hardware.device if precision == "no" else f"{hardware.device} in {precision}"


def _stdin() -> TextIO:
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(encoding="utf-8", errors="strict")
    if sys.stdin.isatty():
        say("reading one text a line from the terminal; Ctrl-D ends")
    return sys.stdin


def _progress(total: int | None, output: TextIO) -> AbstractContextManager[Callable[[int, str], None]]:
    # A bar among answers on the same terminal would be torn apart; a pipe has no end to measure against.
    if total is None or (someone_watches() and output.isatty()):
        return nullcontext(lambda done, words: None)
    return progress("predicting", total)


class _Unanswered:
    """Counts the rows without an answer, and remembers the first of them."""

    def __init__(self) -> None:
        self._count = 0
        self._first: list[int] = []

    def add(self, answers: Sequence[Answer]) -> None:
        rows = [answer.row for answer in answers if answer.said is None]
        self._count += len(rows)
        self._first += rows[: _SHOWN_ROWS - len(self._first)]

    def report(self) -> None:
        if self._count:
            more = ", …" if self._count > len(self._first) else ""
            shown = ", ".join(map(str, self._first)) + more
            say(f"note: {plural(self._count, 'row')} without text, prediction null: {shown}")
