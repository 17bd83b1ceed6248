"""The run record (run.json) and the directory it lives in.

Everything that `list`, `show`, `compare` and `check` print comes from here; nothing heavy is imported.
"""

import errno
import json
import re
import secrets
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from finetune.errors import FinetuneError
from finetune.runs.files import scrub, write_atomically
from finetune.runs.liveness import is_alive
from finetune.runs.tables import one_line
from finetune.text import did_you_mean

SCHEMA_VERSION = 1
RECORD_NAME = "run.json"
STATUSES = ("running", "completed", "stopped", "interrupted", "failed")
DIED = "the process ended without writing its record"
_DAMAGED = "finetune writes this file: bring back a copy of it, or remove the folder of the run."

Section = dict[str, Any]


@dataclass(frozen=True)
class Score:
    """A metric's value with its confidence interval (None when it has none) and the rows it was taken over."""

    value: float
    low: float | None = None
    high: float | None = None
    n: int | None = None

    @classmethod
    def from_json(cls, value: Any) -> "Score | None":
        """Read {value, low, high, n}; None when there is no value."""
        stated = as_mapping(value)
        number, low, high, n = (as_number(stated.get(name)) for name in ("value", "low", "high", "n"))
        return None if number is None else cls(number, low, high, None if n is None else int(n))

    def to_json(self) -> Section:
        """Return {value, low, high, n} as it stands in run.json."""
        return {"value": self.value, "low": self.low, "high": self.high, "n": self.n}


@dataclass(frozen=True)
class Run:
    """One run as run.json has it: the sections are the dictionaries of the file, None is what was not measured.

    `bias` holds what the probes found before and after training. `extra` keeps fields that this version does not know;
    `directory` is where the record was read from and is not part of it.
    """

    run_id: str
    name: str
    status: str = "running"
    status_reason: str | None = None
    group: str | None = None
    tags: tuple[str, ...] = ()
    created_at: str | None = None
    finished_at: str | None = None
    command: str | None = None
    recipe: Section = field(default_factory=dict)
    model: Section = field(default_factory=dict)
    dataset: Section = field(default_factory=dict)
    training: Section = field(default_factory=dict)
    baselines: Section = field(default_factory=dict)
    prompted: Section = field(default_factory=dict)
    metrics: Section = field(default_factory=dict)
    main_metric: Section = field(default_factory=dict)
    bias: Section | None = None
    emissions: Section = field(default_factory=dict)
    timeline: tuple[Section, ...] = ()
    hardware: Section = field(default_factory=dict)
    versions: Section = field(default_factory=dict)
    schema_version: int = SCHEMA_VERSION
    extra: Section = field(default_factory=dict)
    directory: Path | None = field(default=None, compare=False, repr=False)

    def main_score(self) -> Score | None:
        """Return the score that the run is judged by."""
        return Score.from_json(self.main_metric)

    def score(self, metric: str, split: str) -> Score | None:
        """Return one metric of one split (validation, test)."""
        return Score.from_json(as_mapping(self.metrics.get(split)).get(metric))

    def energy_kwh(self) -> float | None:
        """Return the IT energy of the whole run, None when nothing was measured."""
        return as_number(self.emissions.get("energy_kwh"))

    def emissions_g(self) -> float | None:
        """Return the grams of CO2e as run, None when nothing was measured."""
        return as_number(self.emissions.get("emissions_g"))

    def duration_s(self) -> float | None:
        """Return the wall time of the run in seconds."""
        return as_number(self.emissions.get("duration_s"))

    def wh_per_1000_predictions(self) -> float | None:
        """Return what 1,000 answers of the trained model cost, None when it was not measured."""
        return as_number(self.emissions.get("wh_per_1000_predictions"))

    def trained_parameters(self) -> float | None:
        """Return how many parameters were trained, None when the record does not say."""
        return as_number(self.model.get("trainable_parameters"))

    @property
    def was_alone(self) -> bool:
        """Tell whether no other run used the machine meanwhile; False too where nobody could look."""
        return self.emissions.get("shared_with") == []

    @property
    def is_complete(self) -> bool:
        """Tell whether all hardware was read all the time; energy and grams are lower bounds where it was not."""
        return self.emissions.get("complete") is True

    @property
    def is_alive(self) -> bool:
        """Tell whether a living process holds the run now: its folder is asked."""
        return self.directory is not None and is_alive(self.directory)

    @property
    def has_trained(self) -> bool:
        """Tell whether the run came as far as its training."""
        return "train" in as_mapping(self.emissions.get("phases"))

    @property
    def short_id(self) -> str:
        """Return the last part of the run id, enough to name the run."""
        return self.run_id.rpartition("-")[2]

    @property
    def is_finished(self) -> bool:
        """Tell whether the run came to its end (also when a stop rule ended it)."""
        return self.status in ("completed", "stopped")


_SECTIONS = frozenset(entry.name for entry in fields(Run) if entry.type in (Section, Section | None))
_NOT_IN_FILE = ("extra", "directory")


def as_number(value: Any) -> float | None:
    """Return a finite JSON number as float, None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value or abs(value) == float("inf"):
        return None
    return float(value)


def as_mapping(value: Any) -> Mapping[str, Any]:
    """Return a JSON object, an empty one for anything else."""
    return value if isinstance(value, Mapping) else {}


def as_sections(value: Any) -> dict[str, Mapping[str, Any]]:
    """Return the objects in a JSON object by their names, none for anything else."""
    return {name: entry for name, entry in as_mapping(value).items() if isinstance(entry, Mapping)}


def run_to_json(run: Run) -> Section:
    """Return the content of run.json, in the order of the contract, without home paths, tokens or NaN."""
    order = ("schema_version", *(entry.name for entry in fields(Run) if entry.name != "schema_version"))
    content = {name: getattr(run, name) for name in order if name not in _NOT_IN_FILE}
    cleaned: Section = scrub({**content, **run.extra})
    return cleaned


def run_from_json(content: Any, place: str = RECORD_NAME) -> Run:
    """Build a Run from the content of run.json.

    Raises FinetuneError when it is not a run record, or one of a newer major version; `place` names the file in
    the message.
    """
    if not isinstance(content, dict) or not isinstance(content.get("run_id"), str):
        raise FinetuneError(f"{place}: not a run record (no run_id)", _DAMAGED)
    version = content.get("schema_version", SCHEMA_VERSION)
    if not isinstance(version, int) or version > SCHEMA_VERSION:
        raise FinetuneError(
            f"{place}: schema_version {version}, this finetune reads up to {SCHEMA_VERSION}",
            "Read it with the newer finetune that wrote it.",
        )
    known = {entry.name for entry in fields(Run)} - set(_NOT_IN_FILE)
    values = {name: _field_value(name, value, place) for name, value in content.items() if name in known}
    values = {name: value for name, value in values.items() if value is not None}
    values.setdefault("name", content["run_id"])
    values.setdefault("status", "failed")
    return Run(**values, extra={name: value for name, value in content.items() if name not in known})


def _field_value(name: str, value: Any, place: str) -> Any:
    if value is None:
        return None
    if name in _SECTIONS:
        return _checked(name, value, dict, "an object", place)
    if name == "tags":
        return tuple(str(tag) for tag in _checked(name, value, list, "a list", place))
    if name == "timeline":
        entries = _checked(name, value, list, "a list", place)
        return tuple(_checked("timeline", entry, dict, "a list of objects", place) for entry in entries)
    if name == "status" and value not in STATUSES:
        raise FinetuneError(f"{place}: status: found {value!r}, allowed are {', '.join(STATUSES)}", _DAMAGED)
    return value if name == "schema_version" else _checked(name, value, str, "text", place)


def _checked(name: str, value: Any, kind: type, words: str, place: str) -> Any:
    if not isinstance(value, kind):
        raise FinetuneError(f"{place}: {name}: found {type(value).__name__}, expected {words}", _DAMAGED)
    return value


def write_run(run: Run, directory: Path) -> None:
    """Write run.json atomically."""
    text = json.dumps(run_to_json(run), indent=2, ensure_ascii=False, allow_nan=False)
    write_atomically(directory / RECORD_NAME, text + "\n")


def read_run(directory: Path) -> Run:
    """Read a run record; one that says "running" while its process is gone comes back as "interrupted".

    The energy of such a run is read from its journal. Raises FinetuneError when the folder holds no readable record.
    """
    path = directory / RECORD_NAME
    try:
        content = json.loads(path.read_bytes().decode("utf-8-sig"))
    except FileNotFoundError:
        raise FinetuneError(f"{directory}: holds no {RECORD_NAME}", "finetune list shows the runs.") from None
    except OSError as error:
        raise FinetuneError(
            f"{path}: cannot be read: {error.strerror}", f"See its permissions: ls -l {path}"
        ) from error
    except (ValueError, RecursionError) as error:
        raise FinetuneError(f"{path}: not valid JSON: {error}", _DAMAGED) from error
    run = replace(run_from_json(content, str(path)), directory=directory)
    if run.status == "running" and not is_alive(directory):
        from finetune.runs.interrupted import with_journal

        return with_journal(replace(run, status="interrupted", status_reason=DIED), directory)
    return run


def list_runs(output_dir: Path) -> tuple[tuple[Run, ...], tuple[str, ...]]:
    """Read every run of a folder, oldest first, and return them with notes on what was skipped.

    Raises FinetuneError when the folder does not exist or cannot be read.
    """
    runs: list[Run] = []
    notes: list[str] = []
    for directory in _folders(output_dir):
        try:
            if not directory.is_dir():
                continue
            if (directory / RECORD_NAME).exists():
                runs.append(read_run(directory))
            elif is_alive(directory):
                notes.append(f"{directory}: a run that is starting")
            else:
                notes.append(f"{directory}: not a run (no {RECORD_NAME}), skipped")
        except FinetuneError as error:
            notes.append(f"{error.message}; skipped")
        except OSError as error:  # a folder of somebody else must not hide one's own runs
            notes.append(f"{directory}: cannot be read: {error.strerror}; skipped")
    return tuple(sorted(runs, key=lambda run: (run.created_at or "", run.run_id))), tuple(map(one_line, notes))


def _folders(output_dir: Path) -> list[Path]:
    hint = "finetune run quickstart makes the first run; --output-dir names another folder."
    try:
        return sorted(path for path in output_dir.iterdir() if not path.name.startswith("."))
    except FileNotFoundError:
        raise FinetuneError(f"{output_dir}: no such folder", hint) from None
    except NotADirectoryError:
        raise FinetuneError(f"{output_dir}: is a file, not a folder", hint) from None
    except OSError as error:
        raise FinetuneError(f"{output_dir}: cannot be read: {error.strerror}", hint) from error


def find_run(reference: str, output_dir: Path) -> Path:
    """Return the directory of the run that a person means.

    A reference is a run id, a unique beginning of one or its last part (the short id), a name, or a folder.
    Raises FinetuneError when nothing or more than one run matches (the message lists the matches), or when the folder
    that is named cannot be read.
    """
    if not reference.strip():
        raise FinetuneError(
            "a run is named by its id, the beginning of its id, its name or its folder; found nothing",
            "finetune list shows the runs.",
        )
    as_folder = _as_folder(reference)
    unreadable: list[FinetuneError] = []
    for folder in (as_folder, output_dir / reference):
        try:
            if (folder / RECORD_NAME).is_file():
                return folder
        except OSError as error:
            if error.errno != errno.ENAMETOOLONG:
                unreadable.append(
                    FinetuneError(
                        f"{folder}: cannot be read: {error.strerror}", f"See its permissions: ls -ld {folder}"
                    )
                )
    if as_folder.is_absolute() or len(as_folder.parts) > 1:
        if unreadable:
            raise unreadable[0]
        raise FinetuneError(f"{reference}: no such run directory", f"finetune list --output-dir {as_folder.parent}")
    runs = list_runs(output_dir)[0]
    matches = matching_runs(reference, runs)
    if len(matches) == 1 and matches[0].directory is not None:
        return matches[0].directory
    if matches:
        found = "".join(f"\n  {one_line(run.run_id)}  {run.status}" for run in matches)
        raise FinetuneError(
            f"{reference}: {len(matches)} runs in {output_dir} match:{found}", "Type more of the run id, or its folder."
        )
    if unreadable:
        raise unreadable[0]
    near = did_you_mean(reference, {one_line(name) for run in runs for name in (run.name, run.run_id)})
    raise FinetuneError(
        f"{reference}: no such run in {output_dir}",
        f"Did you mean {near}?" if near else f"finetune list --output-dir {output_dir}",
    )


def matching_runs(reference: str, runs: Sequence[Run]) -> list[Run]:
    """Return the runs that a person may mean: those of that name, else those whose id begins or ends so, or folder."""
    return [run for run in runs if run.name == reference] or [
        run
        for run in runs
        if run.run_id.startswith(reference)
        or run.run_id.endswith(f"-{reference}")
        or (run.directory is not None and run.directory.name == reference)  # a folder that was renamed
    ]


def names_a_run(reference: str, output_dir: Path) -> bool:
    """Tell whether a reference that may be a checkpoint is one run of a folder, or several."""
    return output_dir.is_dir() and bool(matching_runs(reference, list_runs(output_dir)[0]))


def _as_folder(reference: str) -> Path:
    try:
        return Path(reference).expanduser()
    except RuntimeError:  # ~ and the name of nobody
        return Path(reference)


def new_run_id(name: str) -> str:
    """Return <name>-<UTC time>-<short id>, what a run or a group of runs is called."""
    return f"{slug(name)}-{datetime.now(UTC).strftime('%Y%m%dT%H%M%SZ')}-{secrets.token_hex(3)}"


def new_run_directory(output_dir: Path, name: str) -> Path:
    """Make <output_dir>/<name>-<UTC time>-<short id> and return it; two calls at one moment get two folders.

    Raises FinetuneError when the folder cannot be made.
    """
    while True:
        directory = output_dir / new_run_id(name)
        try:
            output_dir.mkdir(parents=True, exist_ok=True)
            directory.mkdir()
        except FileExistsError:
            if output_dir.is_dir():
                continue
            raise FinetuneError(
                f"output_dir: {output_dir} is a file, not a folder", "Name another output_dir."
            ) from None
        except OSError as error:
            raise FinetuneError(
                f"output_dir: cannot make {directory}: {error.strerror}", "Name a folder that you may write to."
            ) from error
        return directory


def slug(name: str) -> str:
    """Turn any name into one that is safe as a folder: letters, digits, . - _ and at most 64 characters."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    return re.sub(r"[^A-Za-z0-9._-]+", "-", plain).strip("-._")[:64].rstrip("-._") or "run"


def utc_now() -> str:
    """Return the time as run.json writes it: 2026-01-31T12:00:00Z."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
