"""Licence and language, from the cards of the checkpoint and the dataset where they are on this machine."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from finetune.package_paths import is_package_path, resolve_package_path

_HEAD = re.compile(r"---\s*\n(.*?)\n---\s*(\n|$)", re.DOTALL)
_WORD = re.compile(r"[\w.+-]{1,64}")


def stated_in_card(reference: str | None, revision: str | None, kind: str) -> dict[str, Any]:
    """Return {license, language} as the README.md of a folder, or of a copy in the Hub's cache, states them.

    `kind` is model or dataset. language is a list; what is not stated is None. Nothing is downloaded, and a card that
    cannot be read states nothing.
    """
    head = _head(_card(reference, revision, kind)) if reference else {}
    spoken = head.get("language")
    languages = [spoken] if isinstance(spoken, str) else spoken if isinstance(spoken, list) else []
    plain = [entry for entry in languages if isinstance(entry, str) and _WORD.fullmatch(entry)]
    licence = head.get("license")
    is_word = isinstance(licence, str) and _WORD.fullmatch(licence)
    return {"license": licence if is_word else None, "language": plain or None}


def _card(reference: str, revision: str | None, kind: str) -> Path | None:
    folder = resolve_package_path(reference) if is_package_path(reference) else Path(reference)
    if folder.is_dir():
        return folder / "README.md"
    if revision is None:  # only what came from the Hub has a resolved commit
        return None
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(reference, "README.md", revision=revision, repo_type=kind)
    return Path(found) if isinstance(found, str) else None


def _head(card: Path | None) -> dict[str, Any]:
    import yaml

    if card is None or not card.is_file():
        return {}
    found = _HEAD.match(card.read_text(encoding="utf-8-sig", errors="replace"))
    try:
        # All values as text: YAML 1.1 would read the language `no` as false.
        content = yaml.load(found[1], Loader=yaml.BaseLoader) if found else {}
    except yaml.YAMLError:
        return {}
    return content if isinstance(content, dict) else {}
