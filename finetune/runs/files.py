"""Write files that are never half written, and keep private things out of them."""

import math
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# Hub tokens (hf_…, api_org_…) and the header that carries them; long enough not to catch words such as hf_transfer.
_TOKEN = re.compile(r"\b(hf_|api_org_)[A-Za-z0-9]{16,}\b|\b(Bearer )[A-Za-z0-9._~+/-]{16,}=*")


def write_atomically(path: Path, content: str | bytes | Iterable[str]) -> None:
    """Write a file so that a reader, or a crash at any moment, finds the old content or the new, never a half.

    A text may come in pieces. A temporary file in the same folder is written, flushed to the disk and renamed over
    the old one.
    """
    # mkstemp makes files that only the owner reads; a run directory is shared like any other folder.
    mode = path.stat().st_mode & 0o777 if path.exists() else 0o666 & ~_umask()
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            pieces = [content] if isinstance(content, str | bytes) else content
            file.writelines(piece.encode() if isinstance(piece, str) else piece for piece in pieces)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, mode)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    _flush(path.parent)


@contextmanager
def whole_folder(target: Path) -> Iterator[Path]:
    """Let a folder be built under another name, then flush it to the disk and rename it.

    A crash leaves the finished folder or none of that name, besides one that ends in .tmp; an error leaves nothing. An
    older folder of that name gives way at the end.
    """
    building = target.with_name(f"{target.name}.tmp")
    shutil.rmtree(building, ignore_errors=True)
    try:
        building.mkdir(parents=True)
        yield building
        for path in [*building.rglob("*"), building]:
            _flush(path)
        drop_folder(target)
        building.rename(target)
    except BaseException:
        shutil.rmtree(building, ignore_errors=True)
        raise
    _flush(target.parent)


def drop_folder(folder: Path) -> None:
    """Remove a folder so that a crash on the way leaves no part of it under its name; does nothing without one."""
    going = folder.with_name(f"{folder.name}.old.tmp")
    shutil.rmtree(going, ignore_errors=True)
    if folder.exists():
        folder.rename(going)
        shutil.rmtree(going, ignore_errors=True)


def half_written(folder: Path) -> tuple[Path, ...]:
    """Return what a killed process left half written in a folder: the temporary files and folders of this module."""
    if folder.is_symlink() or not folder.is_dir():  # a link leads out of the run; what lies behind it is not ours
        return ()
    return tuple(sorted(path for path in folder.iterdir() if path.suffix == ".tmp" and not path.is_symlink()))


def remove_path(path: Path) -> None:
    """Remove a file or a folder; one that is gone already is no error. Raises OSError."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def scrub(value: Any) -> Any:
    """Return JSON-like data with the home path written as ~, hub tokens redacted and NaN or infinity as null.

    Dictionaries, lists and tuples (as lists) are walked through; their keys are left alone.
    """
    if isinstance(value, str):
        return _scrub_text(value)
    if isinstance(value, dict):
        return {str(key): scrub(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [scrub(item) for item in value]
    if isinstance(value, Path):
        return _scrub_text(str(value))
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _scrub_text(text: str) -> str:
    text = _TOKEN.sub(lambda found: f"{found[1] or found[2]}(redacted)", text)
    home = os.path.expanduser("~").rstrip("/\\")
    if len(home) < 2:  # no home, or the root folder itself
        return text
    # Written as a climb (../../home/me/data) it names its owner no less.
    return re.sub(rf"(?<![\w.-])(?:(?:\.{{1,2}}/)*\.\.)?{re.escape(home)}(?![\w.-])", "~", text)


def make_readable(path: Path) -> None:
    """Give a file the rights that any new file gets; some libraries make files that only their owner reads."""
    path.chmod(0o666 & ~_umask())


def _umask() -> int:
    # Python reads the umask only by setting it.
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def _flush(path: Path) -> None:
    """Force a file, or the names in a folder, onto the disk, so that a rename never names what is not there yet."""
    if os.name == "nt":  # Windows flushes neither folders nor files that are open for reading
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
