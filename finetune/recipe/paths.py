"""Resolve the inputs that a recipe names, and check that local ones exist.

A reference is a path when it looks like one (./x, /x, a data file's ending, more than one slash) or when it is
there beside the recipe; `owner/name` that is not is a hub id; `package:` names a folder of a Python package.
"""

import os
import re
from collections.abc import Callable, Iterator
from glob import iglob
from pathlib import Path
from typing import Any

from finetune.errors import FinetuneError
from finetune.package_paths import is_package_path, resolve_package_path
from finetune.recipe.bias_keys import FILES
from finetune.recipe.bias_keys import KEY as BIAS
from finetune.recipe.data_formats import BUILDERS, ENDINGS
from finetune.recipe.lookup import LONGEST_SHOWN, cannot_be_read, look_up, near_name, neighbours
from finetune.recipe.schema import Recipe

_DATA_ENDINGS = (*(f".{ending}" for ending in ENDINGS), ".gz", ".zip", ".zst")

_HUB_ID = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")
_VARIABLE = re.compile(r"\$\{?\w+\}?|^~|%\w+%")
_WILDCARD = re.compile(r"[*?\[]")
_LOOKS_LIKE_PATH = re.compile(r"\.{1,2}([/\\]|$)|[/\\~]|[A-Za-z]:[/\\]")

_HUB_ADDRESS = re.compile(
    r"(https?://(www\.)?huggingface\.co/|hf://)(datasets/)?+(?P<id>[\w-][\w.-]*(/[\w-][\w.-]*)?)(/|/tree/.*)?"
)

Key = tuple[str, ...]
Finding = tuple[Key, str]


def map_inputs(recipe: Recipe, change: Callable[[Key, str], str]) -> Recipe:
    """Return the recipe with `change(key, value)` in place of every value that may name a local input."""
    data = recipe.dataset
    model = recipe.model.model_copy(
        update={"name_or_path": change(("model", "name_or_path"), recipe.model.name_or_path)}
    )
    files = data.data_files
    if files is not None:
        files = {split: _map_files(value, ("dataset", "data_files", split), change) for split, value in files.items()}
    path = change(("dataset", "path"), data.path) if data.path is not None else None
    metrics = recipe.evaluation.metrics
    if metrics is not None:
        metrics = [change(("evaluation", "metrics"), metric) for metric in metrics]
    return recipe.model_copy(
        update={
            "model": model,
            "dataset": data.model_copy(update={"path": path, "data_files": files}),
            "evaluation": recipe.evaluation.model_copy(
                update={"metrics": metrics, "bias": _map_probes(recipe, change)}
            ),
        }
    )


def absolute_inputs(recipe: Recipe, folder: Path) -> Recipe:
    """Return the recipe with every local input as an absolute path; relative ones start at `folder`."""
    return map_inputs(recipe, lambda key, value: _absolute(key, value, folder, recipe))


def relative_inputs(recipe: Recipe, folder: Path) -> Recipe:
    """Return the recipe with every absolute input relative to `folder`, so that a record names no home folder."""

    def relative(key: Key, value: str) -> str:
        if not os.path.isabs(value):
            return value
        start = os.path.realpath(folder)
        if os.path.splitdrive(value)[0] != os.path.splitdrive(start)[0]:
            return value  # another Windows drive: there is no relative path
        short = Path(os.path.relpath(value, start)).as_posix()
        return short if short.startswith("..") else f"./{short}"

    return map_inputs(recipe, relative)


def missing_inputs(recipe: Recipe) -> Iterator[Finding]:
    """Yield what is wrong with the inputs of a recipe whose local paths are absolute already."""
    seen: list[Finding] = []

    def look(key: Key, value: str) -> str:
        message = _what_is_wrong(key, value, recipe)
        if message:
            seen.append((key, message))
        return value

    map_inputs(recipe, look)
    if _VARIABLE.search(recipe.output_dir):
        seen.append((("output_dir",), _not_expanded(recipe.output_dir)))
    elif message := _output_fault(Path(recipe.output_dir)):
        seen.append((("output_dir",), message))
    yield from seen


def _map_files(value: str | list[str], key: Key, change: Callable[[Key, str], str]) -> str | list[str]:
    return change(key, value) if isinstance(value, str) else [change(key, file) for file in value]


def _map_probes(recipe: Recipe, change: Callable[[Key, str], str]) -> list[dict[str, Any]] | None:
    probes = recipe.evaluation.bias
    if probes is None:
        return None
    return [
        {
            name: change(BIAS, value) if name in FILES and isinstance(value, str) else value
            for name, value in probe.items()
        }
        for probe in probes
    ]


def _is_builder(key: Key, value: str, recipe: Recipe) -> bool:
    return key == ("dataset", "path") and recipe.dataset.data_files is not None and value in BUILDERS


def _is_remote(value: str) -> bool:
    return "://" in value


def _absolute(key: Key, value: str, folder: Path, recipe: Recipe) -> str:
    if is_package_path(value) or _is_remote(value) or _VARIABLE.search(value) or _is_builder(key, value, recipe):
        return value
    target = os.path.normpath(Path(os.path.realpath(folder), value))
    if key == BIAS:
        return target
    if key[:2] == ("dataset", "data_files"):
        # With a hub dataset, data_files name files of its repository.
        return target if _files_are_local(recipe, folder) else value
    if key == ("evaluation", "metrics"):
        is_path = (
            value.endswith(".py") or bool(_LOOKS_LIKE_PATH.match(value)) or ("/" in value and os.path.exists(target))
        )
    else:
        is_path = _looks_like_path(value) or os.path.exists(target)
    return target if is_path else value


def _looks_like_path(value: str) -> bool:
    return (
        bool(_LOOKS_LIKE_PATH.match(value))
        or value.count("/") > 1
        or "\\" in value
        or value.lower().endswith(_DATA_ENDINGS)
    )


def _files_are_local(recipe: Recipe, folder: Path) -> bool:
    path = recipe.dataset.path
    if path is None or path in BUILDERS:
        return True
    return _looks_like_path(path) or os.path.exists(Path(os.path.realpath(folder), path))


def _what_is_wrong(key: Key, value: str, recipe: Recipe) -> str | None:
    if _is_remote(value):
        return _remote_fault(key, value, recipe)
    if _is_builder(key, value, recipe):
        return None
    if is_package_path(value):
        return _package_fault(value)
    if _VARIABLE.search(value):
        return _not_expanded(value)
    if os.path.isabs(value):
        return _path_fault(key, Path(value))
    if key[:2] == ("dataset", "data_files") or key == ("evaluation", "metrics"):
        return None
    if not _HUB_ID.fullmatch(value):
        return f"{value!r} is neither a hub id (owner/name), a path nor package:<python package>/<folder>"
    if key == ("dataset", "path") and value in BUILDERS:
        return f"{value} names a format; say which files in dataset.data_files"
    return None


def _package_fault(value: str) -> str | None:
    try:
        resolve_package_path(value)
    except OSError as error:
        return f"{value[:LONGEST_SHOWN]} {cannot_be_read(error)}"
    except FinetuneError as error:
        message = error.message.removeprefix(f"{value}: ")
        return f"{value}: {message}" + (f" ({error.hint})" if error.hint else "")
    return None


def _not_expanded(value: str) -> str:
    return (
        f"variables and ~ are not expanded in a recipe: {value!r}; write the path out, or give it on the command line"
    )


def _remote_fault(key: Key, value: str, recipe: Recipe) -> str | None:
    hub = _HUB_ADDRESS.fullmatch(value)
    if key in (("model", "name_or_path"), ("dataset", "path")):
        said = f"did you mean {hub['id']}?" if hub else "expected a hub id, a path on this machine or package:…"
        return f"{value} is an address; {said}"
    # Only with a dataset of the hub may datasets itself fetch a file.
    path = recipe.dataset.path
    is_file = key[:2] == ("dataset", "data_files") and (path is None or path in BUILDERS or os.path.isabs(path))
    if is_file or key == BIAS:
        return f"{value} is an address, not a file; download it first: curl -LO {value}"
    return None


def _output_fault(path: Path) -> str | None:
    """Return why no folder can be made at a path: a file stands in the way, or the system refuses the name."""
    for place in (path, *path.parents):
        found = look_up(place)
        if found.fault:
            return f"{found.shown} {found.fault}"
        if found.kind in ("file", "other"):
            return f"{place} is a file; expected a folder, which is made when it is not there"
        if found.kind == "folder":
            return None
    return None


def _path_fault(key: Key, path: Path) -> str | None:
    wants_folder = key == ("model", "name_or_path")
    found = look_up(path)
    if found.fault:
        return f"{found.shown} {found.fault}"
    if found.kind == "other":
        return f"{path} is a device or a pipe; expected a file or a folder"
    if found.kind == "file" and wants_folder:
        return f"{path} is a file; expected the folder of a checkpoint"
    if found.kind == "folder":
        return _folder_fault(key, path)
    if found.kind == "file":
        return None
    if key[:2] == ("dataset", "data_files") and _WILDCARD.search(str(path)):
        return None if any(iglob(str(path), recursive=True)) else f"no file fits {path}"
    return f"{found.shown} does not exist{_nearest(path)}"


def _folder_fault(key: Key, path: Path) -> str | None:
    names = neighbours(path)
    if path == path.parent:
        return f"{path} is the whole file system; name the file or the folder that is meant"
    if names is None:
        return f"{path} is a folder that cannot be listed; check its permissions"
    if key == ("model", "name_or_path") and "config.json" not in names:
        return f"{path} holds no config.json; expected the folder of a checkpoint"
    if key[:2] == ("dataset", "data_files"):
        data = next((name for name in names if name.lower().endswith(_DATA_ENDINGS)), None)
        example = f", such as {path / data}" if data else ""
        return f"{path} is a folder; name files{example}, or write dataset.path: {path} instead of data_files"
    return None


def _nearest(path: Path) -> str:
    folder = path.parent
    while not os.path.isdir(folder) and folder != folder.parent:
        path, folder = folder, folder.parent
    names = neighbours(folder)
    if names is None:
        return ""
    near = near_name(path.name, names)
    return f"; did you mean {folder / near}?" if near else f"; {folder} holds {_some(names)}"


def _some(names: list[str]) -> str:
    if not names:
        return "nothing"
    return ", ".join(sorted(names)[:6]) + (" …" if len(names) > 6 else "")


def hub_references(recipe: Recipe) -> list[str]:
    """Return which inputs of a loaded recipe lie on the hub (local ones are absolute paths by then)."""
    named = [recipe.model.name_or_path, recipe.dataset.path or ""]
    if recipe.dataset.path in BUILDERS:
        named.pop()
    return [name for name in named if name and not Path(name).is_absolute() and not is_package_path(name)]
