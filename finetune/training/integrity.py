"""Seals: what the files of a checkpoint were when they were written, and whether they still are.

state.json holds the size and CRC-32 of every file beside it, and a CRC-32 of itself. That finds a truncated file, a
flipped byte and a missing file; it is no protection against somebody who wants to deceive.
"""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

from finetune.runs.files import write_atomically

STATE = "state.json"
_SEAL = ("files", "crc32")
_BLOCK = 1 << 20


def write_sealed_state(folder: Path, state: dict[str, Any]) -> None:
    """Write state.json into a folder whose other files are all there."""
    files = {path.name: _fingerprint(path) for path in sorted(folder.iterdir()) if path.name != STATE}
    sealed = {**state, "files": files}
    write_atomically(folder / STATE, json.dumps({**sealed, "crc32": _text_crc32(sealed)}))


def read_sealed_state(folder: Path) -> dict[str, Any]:
    """Return the plain data of a checkpoint without its seal; raises OSError or ValueError when it cannot be read."""
    state = _read(folder)
    return {name: value for name, value in state.items() if name not in _SEAL}


def damage(folder: Path, needed: tuple[str, ...]) -> str | None:
    """Return what is wrong with a checkpoint, None when it is whole.

    Every file is read. Checkpoints that were written without a seal only have to hold the `needed` files.
    """
    try:
        state = _read(folder)
    except FileNotFoundError:
        return f"{STATE} is missing"
    except OSError as error:
        return f"{STATE} cannot be read: {error.strerror}"
    except ValueError:
        return f"{STATE} is not valid JSON"
    own = state.pop("crc32", None)
    if own is not None and own != _text_crc32(state):
        return f"{STATE} is not as it was written"
    files = state.get("files", {})
    for name in {**dict.fromkeys(needed), **files}:
        try:
            found = _fingerprint(folder / name)
        except FileNotFoundError:
            return f"{name} is missing"
        except OSError as error:
            return f"{name} cannot be read: {error.strerror}"
        written = files.get(name, found)
        if found["bytes"] != written["bytes"]:
            return f"{name} has {found['bytes']:,} bytes, {written['bytes']:,} were written"
        if found != written:
            return f"{name} is not as it was written"
    return None


def _read(folder: Path) -> dict[str, Any]:
    state = json.loads((folder / STATE).read_text(encoding="utf-8"))
    if not isinstance(state, dict):
        raise ValueError(f"{STATE} holds no object")
    return state


def _fingerprint(path: Path) -> dict[str, int]:
    size = crc = 0
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            size, crc = size + len(block), zlib.crc32(block, crc)
    return {"bytes": size, "crc32": crc}


def _text_crc32(state: dict[str, Any]) -> int:
    # The order of keys and every float survive a round trip through JSON, so this text can be made again.
    return zlib.crc32(json.dumps(state).encode())
