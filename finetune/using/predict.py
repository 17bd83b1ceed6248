"""`finetune predict`: the model of a finished run on rows from a file or a pipe, as jsonl or csv."""

from __future__ import annotations

import csv
import io
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from finetune.console import progress, say, someone_watches
from finetune.data.rows import open_rows
from finetune.errors import FinetuneError
from finetune.evaluation.predict_file import (
    Answer,
    answer_batch,
    open_finished,
    parse_columns,
    read_inputs,
    roles_in,
)
from finetune.recipe.lookup import look_up
from finetune.runs.record import find_run, read_run
from finetune.text import plural
from finetune.training.hardware import Hardware
from finetune.using.model import open_predictor

FORMATS = ("jsonl", "csv")
_SHOWN_ROWS = 10


@dataclass(frozen=True)
class Request:
    """What the command line asks for; `file` is a path or - for stdin, `columns` are role=name words."""

    run: str
    file: str
    output_dir: Path
    output: Path | None = None
    format: str | None = None
    batch_size: int | None = None
    columns: Sequence[str] = ()


def predict(request: Request) -> None:
    """Answer every row and write the answers as they come; raises FinetuneError for what the user can mend.

    Nothing is kept: a batch is read, answered, written and flushed. An output file appears whole or not at all.
    A reader that has seen enough (`| head`) ends it quietly.
    """
    try:
        _answer_all(request)
    except BrokenPipeError:
        # What is still buffered goes nowhere, or Python would complain about it on its way out.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _answer_all(request: Request) -> None:
    finished = open_finished(read_run(find_run(request.run, request.output_dir)))
    columns = parse_columns(request.columns, finished)
    format = _format(request)
    _check_output(request)
    source = open_rows(Path(request.file) if request.file != "-" else _stdin())
    predictor, hardware = open_predictor(finished, request.batch_size)
    began, done, unanswered = time.perf_counter(), 0, _Unanswered()
    with _open_output(request.output) as output, _progress(source.total, output) as advance:
        write = _writer(format, output, roles_in(source, finished, columns))
        for batch in read_inputs(source, finished, columns, predictor.batch_size):
            for note in batch.notes:
                say(f"note: {note}")
            answers = answer_batch(predictor, batch)
            write(answers)
            output.flush()
            unanswered.add(answers)
            done += len(answers)
            advance(done, "")
    unanswered.report()
    seconds = time.perf_counter() - began
    say(f"{plural(done, 'row')} in {seconds:.1f} s, {done / seconds:,.0f} rows/s on {_where(hardware)}")


def _where(hardware: Hardware) -> str:
    precision = hardware.mixed_precision
    return hardware.device if precision == "no" else f"{hardware.device} in {precision}"


def _stdin() -> TextIO:
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(encoding="utf-8", errors="strict")
    if sys.stdin.isatty():
        say("reading one text a line from the terminal; Ctrl-D ends")
    return sys.stdin


def _check_output(request: Request) -> None:
    """Raise FinetuneError, before anything is computed, when the output cannot be written where it is asked."""
    output, source = request.output, Path(request.file)
    if output is None:
        return
    target = Path(os.path.realpath(output))  # at the end of a link a new file may be made
    there = look_up(target)
    if there.fault:
        raise FinetuneError(f"--output {there.shown} {there.fault}", "Name another file.")
    if request.file != "-" and there.kind != "none" and os.path.exists(source) and target.samefile(source):
        raise FinetuneError(f"--output {output}: is the input file itself", "Name another file.")
    if there.kind == "folder":
        raise FinetuneError(f"--output {output}: is a folder", f"Name a file: {output / 'predictions.jsonl'}")
    if not target.parent.is_dir():
        raise FinetuneError(f"--output {output}: there is no folder {output.parent}", f"mkdir -p {output.parent}")
    if not os.access(target.parent, os.W_OK):
        raise FinetuneError(f"--output {output}: you may not write to {output.parent}", "Name another folder.")


@contextmanager
def _open_output(path: Path | None) -> Iterator[TextIO]:
    """Open stdout or a file; the file takes its name only when everything is in it."""
    if path is None:
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(encoding="utf-8")
        yield sys.stdout
        return
    if path.exists() and not path.is_file():  # a device or a named pipe cannot be replaced
        with path.open("w", encoding="utf-8", newline="") as file:
            yield file
        return
    target = path.resolve()
    building = target.with_name(f".predictions.{os.getpid()}.tmp")
    try:
        with building.open("w", encoding="utf-8", newline="") as file:
            yield file
        os.replace(building, target)
    finally:
        building.unlink(missing_ok=True)


def _progress(total: int | None, output: TextIO) -> AbstractContextManager[Callable[[int, str], None]]:
    # A bar among answers on the same terminal would be torn apart; a pipe has no end to measure against.
    if total is None or (someone_watches() and output.isatty()):
        return nullcontext(lambda done, words: None)
    return progress("predicting", total)


def _format(request: Request) -> str:
    by_ending = request.output is not None and request.output.suffix.lower() == ".csv"
    chosen = request.format or ("csv" if by_ending else "jsonl")
    if chosen not in FORMATS:
        raise FinetuneError(f"--format {chosen}: expected {' or '.join(FORMATS)}")
    return chosen


def _writer(format: str, output: TextIO, roles: Sequence[str]) -> Callable[[Sequence[Answer]], None]:
    if format == "jsonl":
        return lambda answers: output.writelines(
            json.dumps(json_line(answer, roles), ensure_ascii=False) + "\n" for answer in answers
        )
    writer = csv.writer(output, lineterminator="\n")
    writer.writerow(["row", *roles, "prediction", "probability"])
    return lambda answers: writer.writerows(csv_cells(answer, roles) for answer in answers)


def json_line(answer: Answer, roles: Sequence[str]) -> dict[str, Any]:
    """Return one line of the jsonl: row, inputs, prediction, probability and probabilities (null without a text)."""
    texts = {role: answer.texts.get(role) for role in roles}
    return {"row": answer.row, **texts, **(answer.said or {"prediction": None})}


def csv_cells(answer: Answer, roles: Sequence[str]) -> list[Any]:
    """Return one row of the csv; several labels, and their probabilities, are joined by "|", all else is JSON."""
    said: Mapping[str, Any] = answer.said or {"prediction": None}
    prediction, probability = said["prediction"], said.get("probability", said.get("score"))
    if isinstance(prediction, list) and "probabilities" in said:
        probability = "|".join(str(said["probabilities"][label]) for label in prediction)
        prediction = "|".join(prediction)
    inputs = (answer.texts.get(role) for role in roles)
    return [answer.row, *map(_cell, inputs), _cell(prediction), probability]


def _cell(value: Any) -> Any:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else value


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
