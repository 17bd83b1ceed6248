"""Resolve `package:<python package>/<folder inside it>`, for people without a hub."""

import importlib.util
from pathlib import Path

from finetune.errors import FinetuneError

PREFIX = "package:"


def is_package_path(reference: str) -> bool:
    """Tell whether a model or dataset reference names a folder inside an installed Python package."""
    return reference.startswith(PREFIX)


def resolve_package_path(reference: str) -> Path:
    """Return the folder or file that a `package:` reference names.

    The package is located, never imported. Raises FinetuneError when it is not installed, when the path
    does not exist in it, or when the path would leave the package.
    """
    package, _, inside = reference.removeprefix(PREFIX).partition("/")
    root = _package_root(package, reference)
    target = (root / inside).resolve()
    if not target.is_relative_to(root):
        raise FinetuneError(f"{reference}: the path leaves the package {package}", "Name a folder inside the package.")
    if not target.exists():
        found = sorted(child.name for child in root.iterdir() if not child.name.startswith(("_", ".")))
        raise FinetuneError(
            f"{reference}: {package} is installed, but holds no {inside or 'files'}",
            f"It holds: {', '.join(found[:12])}.",
        )
    return target


def _package_root(package: str, reference: str) -> Path:
    # A dotted name would import its parent package: look the parent up, then walk down by hand.
    name, *below = package.split(".")
    spec = importlib.util.find_spec(name) if name.isidentifier() else None
    locations = list(spec.submodule_search_locations or []) if spec else []
    if not locations:
        raise FinetuneError(
            f"{reference}: the Python package {package or '(none)'} is not installed",
            f"pip install {name.replace('_', '-')}"
            if name.isidentifier()
            else "Write package:<python package>/<folder>.",
        )
    return Path(locations[0], *below).resolve()
