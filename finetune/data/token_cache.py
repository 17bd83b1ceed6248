"""Tokenised rows on disk: written whole or not at all, checked when read, found by what they were made from."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import zlib
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetune.errors import FinetuneError

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pyarrow

# Raised whenever the same inputs would be stored otherwise.
FORMAT_VERSION = 3


def cache_directory() -> Path:
    """Return where tokenised data is kept: FINETUNE_CACHE, else finetune in XDG_CACHE_HOME, else in ~/.cache."""
    own = os.environ.get("FINETUNE_CACHE")
    if own:
        return Path(own).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "finetune"


def tokenizer_hash(tokenizer: Any) -> str:
    """Return a sha256 of everything in a tokenizer that changes what it makes of a text."""
    digest = hashlib.sha256()
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        content = json.loads(backend.to_str())
        # The state that the last call left behind; every call sets it anew.
        content["truncation"] = content["padding"] = None
        digest.update(json.dumps(content, sort_keys=True).encode())
    else:
        with tempfile.TemporaryDirectory() as folder:
            for name in sorted(tokenizer.save_pretrained(folder)):
                if Path(name).is_file():
                    digest.update(Path(name).name.encode() + b"\0" + Path(name).read_bytes())
    told = [
        type(tokenizer).__name__, tokenizer.truncation_side, list(tokenizer.model_input_names),
        {name: str(token) for name, token in tokenizer.special_tokens_map.items()},
        getattr(tokenizer, "chat_template", None),
    ]  # fmt: skip
    libraries = [version("transformers"), version("tokenizers")]
    digest.update(json.dumps([told, libraries]).encode())
    return digest.hexdigest()


def find_entry(folder: Path, key: str) -> tuple[pyarrow.Table | None, str | None]:
    """Return the stored table of a key, mapped into memory, and a note when a damaged one was removed.

    The checksum of an entry stands in its name, so that one rename publishes both.
    """
    import pyarrow

    note = None
    for path in sorted(folder.glob(f"{key}.*.arrow")):
        try:
            if _checksum(path) == path.name.split(".")[1]:
                return pyarrow.ipc.open_file(pyarrow.memory_map(str(path))).read_all(), note
        except FileNotFoundError:
            continue  # another run has just replaced it
        path.unlink(missing_ok=True)
        note = f"A damaged entry of the token cache was removed and is made anew ({path})."
    return None, note


def write_entry(folder: Path, key: str, schema_and_batches: Iterable[pyarrow.RecordBatch]) -> pyarrow.Table:
    """Write record batches as the entry of a key and return them mapped into memory.

    Raises FinetuneError when the folder cannot be written.
    """
    import pyarrow

    batches = iter(schema_and_batches)
    temporary: str | None = None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=f"{key}.", suffix=".tmp", dir=folder)
        first = next(batches)
        with os.fdopen(handle, "wb") as file, pyarrow.ipc.new_file(file, first.schema) as writer:
            writer.write_batch(first)
            for batch in batches:
                writer.write_batch(batch)
        path = folder / f"{key}.{_checksum(Path(temporary))}.arrow"
        Path(temporary).replace(path)
        temporary = None
        return pyarrow.ipc.open_file(pyarrow.memory_map(str(path))).read_all()
    except OSError as problem:
        raise FinetuneError(
            f"{folder}: tokenised data cannot be written ({problem.strerror or problem})",
            "Free some space, or set FINETUNE_CACHE to a folder that can be written.",
        ) from problem
    finally:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)


def _checksum(path: Path) -> str:
    crc = 0
    with path.open("rb") as file:
        while block := file.read(1 << 22):
            crc = zlib.crc32(block, crc)
    return f"{crc:08x}"
