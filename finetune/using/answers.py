"""Answers as jsonl or csv, on stdout or in a file that appears whole or not at all."""

from __future__ import annotations

import csv
import io
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from finetune.errors import FinetuneError
from finetune.evaluation.predict_file import Answer
from finetune.recipe.lookup import look_up

FORMATS = ("jsonl", "csv")


def choose_format(asked: str | None, output: Path | None) -> str:
    """Return the format that is asked for, else that of the ending of a file; raises FinetuneError for another."""
    by_ending = output is not None and output.suffix.lower() == ".csv"
    chosen = asked or ("csv" if by_ending else "jsonl")
    if chosen not in FORMATS:
        raise FinetuneError(
            f"--format {chosen}: expected {' or '.join(FORMATS)}", "Leave it out: the ending of --output tells."
        )
    return chosen


def check_output(output: Path | None, source: Path | None) -> None:
    """Raise FinetuneError, before anything is computed, when the output cannot be written where it is asked.

    `source` is the input (None: a pipe), which is never written over.
    """
    if output is None:
        return
    target = Path(os.path.realpath(output))  # at the end of a link a new file may be made
    there = look_up(target)
    if there.fault:
        raise FinetuneError(f"--output {there.shown} {there.fault}", "Name another file.")
    if source is not None and there.kind != "none" and os.path.exists(source) and target.samefile(source):
        raise FinetuneError(f"--output {output}: is the input file itself", "Name another file.")
    if there.kind == "folder":
        raise FinetuneError(f"--output {output}: is a folder", f"Name a file: {output / 'predictions.jsonl'}")
    if not target.parent.is_dir():
        raise FinetuneError(f"--output {output}: there is no folder {output.parent}", f"mkdir -p {output.parent}")
    if not os.access(target.parent, os.W_OK):
        raise FinetuneError(f"--output {output}: you may not write to {output.parent}", "Name another folder.")


@contextmanager
def open_output(path: Path | None) -> Iterator[TextIO]:
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


def writer_of(format: str, output: TextIO, roles: Sequence[str]) -> Callable[[Sequence[Answer]], object]:
    """Return what writes answers to an open file, the heading of a csv first."""
    if format == "jsonl":
        # Not writelines(), which the stream itself has: of a reader that is gone `lasting_streams` knows by write().
        return lambda answers: output.write(
            "".join(_as_text(json_line(answer, roles), to_read=output.isatty()) + "\n" for answer in answers)
        )
    writer = csv.writer(output, lineterminator="\n")
    writer.writerow(["row", *roles, "prediction", "probability"])
    return lambda answers: writer.writerows(csv_cells(answer, roles) for answer in answers)


def _as_text(line: Mapping[str, Any], *, to_read: bool) -> str:
    """Return a line of JSON; for a reader at a terminal its numbers have four digits, files and pipes get them all."""
    if to_read:
        line = json.loads(json.dumps(line), parse_float=lambda digits: float(f"{float(digits):.4g}"))
    return json.dumps(line, ensure_ascii=False)


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
