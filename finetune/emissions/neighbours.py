"""Other runs on this machine whose meters count the same hardware.

Every run that is metered shows in a small file that all users can read: its id, its process, what it meters and whom
it has met; nothing else. Each run reads the others' when it starts, at every measurement, and when it ends. Two runs
that never look at the same moment still learn of each other: who has met others leaves its file to them.

The files of a user lie in a folder of that user's own, so that nobody writes where another one may: what is read from
others is a hint that can be forged, and bars at most a ranking.
"""

import json
import os
import re
import stat
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from finetune.emissions.components import overlap
from finetune.runs.files import write_atomically
from finetune.runs.liveness import is_holder_alive, sign_of_life

FOLDER_VARIABLE = "FINETUNE_HOST_FOLDER"
_PREFIX = "finetune-runs-"
_LARGEST_FILE = 16_384
_RENEW_AFTER_S = 60.0
_RUN_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")


def host_folder(environment: Mapping[str, str] | None = None) -> Path:
    """Return where the users' folders lie: FINETUNE_HOST_FOLDER, else /tmp, since TMPDIR is often a user's own."""
    environment = os.environ if environment is None else environment
    return Path(environment.get(FOLDER_VARIABLE) or (tempfile.gettempdir() if sys.platform == "win32" else "/tmp"))


def living_runs(top: Path | None = None) -> tuple[str, ...]:
    """Return the ids of the runs that are metered on this machine now; raises OSError where nobody can look."""
    entries = _entries(host_folder() if top is None else top).values()
    return tuple(sorted({entry["run_id"] for entry in entries if _is_here(entry) and _is_alive(entry)}))


class Neighbours:
    """The neighbours of one run on this machine. A folder that cannot be used is noted, never raised.

    `met` are the ids of the runs met so far, None as long as nobody could look. `top` is where the users' folders lie.
    """

    def __init__(self, run_id: str, top: Path | None = None) -> None:
        self._run_id = run_id
        self._top = host_folder() if top is None else top
        self._path = self._top / f"{_PREFIX}{_user()}" / f"{run_id}.{os.getpid()}.json"
        self._hardware: tuple[str, ...] = ()
        self._written_s = 0.0
        self.met: tuple[str, ...] | None = None
        self.problem: str | None = None

    def join(self, hardware: Iterable[str]) -> None:
        """Show this run as one that meters some hardware (keys of components), and look for others."""
        self._hardware = tuple(hardware)
        try:
            _make_own(self._path.parent)
            self._write()
        except OSError as error:
            self._fail(error)
        self.look()

    def look(self) -> None:
        """Meet the runs that are here now, or were and have met this one; clear away what the dead have left."""
        if not self._hardware or self.problem is not None:
            return
        try:
            entries = _entries(self._top)
            known = set(self.met or ())
            found = known | {entry["run_id"] for entry in entries.values() if self._is_neighbour(entry)}
            self.met = tuple(sorted(found))
            if found != known or time.monotonic() - self._written_s > _RENEW_AFTER_S:
                self._write()
            self._clear(entries)
        except OSError as error:
            self._fail(error)

    def leave(self) -> None:
        """Look a last time, and take this run's file away unless another run that is alive has to read it yet."""
        self.look()
        try:
            if not self._hardware or self.problem is not None:
                return
            if set(self.met or ()) & set(living_runs(self._top)):
                self._write(ended=True)
            else:
                self._path.unlink(missing_ok=True)
        except OSError as error:
            self._fail(error)
        finally:
            self._hardware = ()

    def _is_neighbour(self, entry: Mapping[str, Any]) -> bool:
        if entry["run_id"] == self._run_id or not _is_here(entry):
            return False  # another machine's meter of this run or an earlier life of it; or a folder of several hosts
        if self._run_id in entry["met"]:
            return True
        shares = any(overlap(own, other) for own in self._hardware for other in entry["hardware"])
        return shares and _is_alive(entry)

    def _write(self, *, ended: bool = False) -> None:
        life = sign_of_life() | ({"pid": None, "heartbeat_at": 0.0} if ended else {})
        entry = life | {"run_id": self._run_id, "hardware": list(self._hardware), "met": list(self.met or ())}
        write_atomically(self._path, json.dumps(entry) + "\n")
        self._path.chmod(0o644)  # whatever the umask says: the runs of other users read it
        self._written_s = time.monotonic()

    def _clear(self, entries: Mapping[Path, Mapping[str, Any]]) -> None:
        """Remove the files of this user's dead runs that nobody alive has to read any more."""
        alive = {entry["run_id"] for entry in entries.values() if _is_alive(entry)}
        for path, entry in entries.items():
            if path.parent == self._path.parent and not _is_alive(entry) and not alive & set(entry["met"]):
                path.unlink(missing_ok=True)

    def _fail(self, error: OSError) -> None:
        place = error.filename or self._top
        self.problem = f"other runs on this machine could not be looked for: {place}: {error.strerror or error}"


def _make_own(folder: Path) -> None:
    """Make a folder that others can read and only this user can write; raises OSError when it is not such a one."""
    folder.mkdir(parents=True, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != _user():
        raise PermissionError(1, "is not a folder of this user", str(folder))
    folder.chmod(0o755)


def _entries(top: Path) -> dict[Path, dict[str, Any]]:
    """Read what all users' runs show; what is not such a file is left out. Raises OSError for the top folder alone."""
    found = {}
    for folder in sorted(path for path in top.iterdir() if path.name.startswith(_PREFIX)):
        try:
            paths = [path for path in sorted(folder.iterdir()) if path.suffix == ".json"]
        except OSError:  # closed to us, or gone
            continue
        for path in paths:
            entry = _read(path)
            if entry is not None:
                found[path] = entry
    return found


def _read(path: Path) -> dict[str, Any] | None:
    # Anybody may have put anything there: no links, no pipes that would keep us waiting, nothing large.
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        handle = os.open(path, flags)
    except OSError:
        return None
    try:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode) or found.st_size > _LARGEST_FILE:
            return None
        entry = json.loads(os.read(handle, _LARGEST_FILE))
    except (OSError, ValueError, RecursionError):
        return None
    finally:
        os.close(handle)
    return {**entry, "user": found.st_uid} if _is_entry(entry) else None


def _is_entry(entry: Any) -> bool:
    if not isinstance(entry, dict) or not isinstance(entry.get("run_id"), str):
        return False
    if not _RUN_ID.fullmatch(entry["run_id"]):  # it is printed and recorded
        return False
    lists = (entry.get("hardware"), entry.get("met"))
    return all(isinstance(one, list) and all(isinstance(word, str) for word in one) for one in lists)


def _is_alive(entry: Mapping[str, Any]) -> bool:
    if entry["user"] != _user() and not _sees_all_processes():
        entry = {**entry, "pid_namespace": None}  # judged by the age of its last sign, like a process of a container
    return is_holder_alive(entry)


def _sees_all_processes(root: Path = Path("/")) -> bool:
    """Tell whether processes of other users can be seen: many clusters mount /proc with hidepid."""
    return not (root / "proc/self").exists() or os.access(root / "proc/1/stat", os.R_OK)


def _user() -> int:
    return os.getuid() if hasattr(os, "getuid") else 0


def _is_here(entry: Mapping[str, Any]) -> bool:
    return bool(entry.get("boot_id") == sign_of_life()["boot_id"])
