"""Look at paths that people name, without ever tripping over one that cannot be looked at."""

import errno
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from finetune.text import did_you_mean

LONGEST_SHOWN = 120  # characters of a path in an error


@dataclass(frozen=True)
class Found:
    """What is at a path: kind is file, folder, other (a device, a pipe) or none.

    `fault` says, of a path that is not plainly there or missing, why it cannot be used; `shown` is the path for an
    error, cut when it is very long.
    """

    kind: str
    shown: str
    fault: str | None = None


def look_up(path: Path) -> Found:
    """Return what is at a path; a link that leads nowhere and a path that cannot be looked at are faults."""
    shown = str(path) if len(str(path)) <= LONGEST_SHOWN else f"{str(path)[:LONGEST_SHOWN]}…"
    try:
        mode = os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        if os.path.islink(path):
            return Found("none", shown, f"is a link to {os.readlink(path)}, which does not exist")
        return Found("none", shown)
    except OSError as problem:
        return Found("none", shown, cannot_be_read(problem))
    except ValueError:  # a NUL byte
        return Found("none", shown)
    return Found("file" if stat.S_ISREG(mode) else "folder" if stat.S_ISDIR(mode) else "other", shown)


def cannot_be_read(problem: OSError) -> str:
    """Return why the system refuses a path, as the end of a sentence that begins with the path."""
    if problem.errno == errno.ENAMETOOLONG:
        return "is longer than the name of a file can be"
    if problem.errno == errno.ELOOP:
        return "is a link that leads back to itself"
    return f"cannot be read ({problem.strerror or problem})"


def neighbours(folder: Path) -> list[str] | None:
    """Return the sorted names in a folder, hidden ones aside; None when it cannot be listed."""
    try:
        return sorted(name for name in os.listdir(folder) if not name.startswith("."))
    except (OSError, ValueError):
        return None


def near_name(name: str, names: list[str]) -> str | None:
    """Return the name that was probably meant, never the very name that was not found."""
    return did_you_mean(name, [other for other in names if other != name])
