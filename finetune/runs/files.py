"""Write files that are never half written, and keep private things out of them."""

import math
import os
import re
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

# Hub tokens (hf_…, api_org_…) and the header that carries them; long enough not to catch words such as hf_transfer.
_TOKEN = re.compile(r"\b(hf_|api_org_)[A-Za-z0-9]{16,}\b|\b(Bearer )[A-Za-z0-9._~+/-]{16,}=*")


def write_atomically(path: Path, text: str | Iterable[str]) -> None:
    """Write a text file so that a reader, or a crash at any moment, finds the old content or the new, never a half.

    The text may come in pieces. A temporary file in the same folder is written, flushed to the disk and renamed over
    the old one.
    """
    # mkstemp makes files that only the owner reads; a run directory is shared like any other folder.
    mode = path.stat().st_mode & 0o777 if path.exists() else 0o666 & ~_umask()
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
            file.writelines([text] if isinstance(text, str) else text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, mode)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


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


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":  # Windows cannot open a folder to flush it
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
