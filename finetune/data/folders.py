"""Find the splits in a folder: by the usual file names, the layout of hub repositories, or its README."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetune.data.arrow_files import is_saved_dataset, read_saved_dataset
from finetune.data.files import Reader, expand, format_of, read_file, read_split
from finetune.data.text_files import read_error
from finetune.errors import FinetuneError
from finetune.recipe.data_formats import FORMATS
from finetune.text import did_you_mean, join_words

if TYPE_CHECKING:
    from collections.abc import Iterator

    from finetune.data.raw import RawSplit

# The same words as in the hub's own detection of splits.
SPLIT_WORDS = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
    "eval": "test",
    "evaluation": "test",
}
_NOT_DATA = re.compile(
    r"(readme|licen[cs]e|notice|requirements|changelog|citation)\b.*|dataset_infos?\.json|.*config\.json", re.IGNORECASE
)


def read_folder(
    folder: Path, config: str | None, reader: Reader = read_file
) -> tuple[dict[str, RawSplit], tuple[str, ...]]:
    """Read every split of a folder, with notes on what was taken for what.

    `config` picks a subset where the folder holds several; `reader` is `read_file`, or what opens files to be streamed.
    Raises FinetuneError when files cannot be told apart.
    """
    if is_saved_dataset(folder):
        return read_saved_dataset(folder), ()
    declared = _declared_in_readme(folder, config)
    if declared is not None:
        return {name: read_split(name, paths, None, reader) for name, paths in declared.items()}, ()
    if config is not None:
        folder = _config_folder(folder, config)
        if is_saved_dataset(folder):
            return read_saved_dataset(folder), ()
    files, ignored = find_splits(folder)
    notes = [
        f"{name}: taken from {join_words((str(path.relative_to(folder)) for path in paths), 'and')}."
        for name, paths in files.items()
        if any(_stem(path) != name for path in paths)
    ]
    if ignored:
        notes.append(f"Files of {folder} that belong to no split were left out: {', '.join(ignored[:6])}.")
    return {name: read_split(name, paths, None, reader) for name, paths in files.items()}, tuple(notes)


def find_splits(folder: Path) -> tuple[dict[str, list[Path]], list[str]]:
    """Return the data files of a folder by split, and the names of those that belong to none."""
    found = sorted(path for path in _walk(folder) if _is_data(path, folder))
    if not found:
        raise _nothing_found(folder)
    by_split: dict[str, list[Path]] = {}
    unnamed: list[Path] = []
    for path in found:
        split = _split_of(path, folder)
        if split is None:
            unnamed.append(path)
        else:
            by_split.setdefault(split, []).append(path)
    if not by_split:
        if len(unnamed) > 1:
            raise FinetuneError(
                f"{folder}: holds {join_words((path.name for path in unnamed[:6]), 'and')}, and none is named after "
                "a split (train, validation, test)",
                "Say which is which: dataset.data_files: {train: …, validation: …}",
            )
        return {"train": unnamed}, []
    for split, paths in by_split.items():
        _check_one_dataset(folder, split, paths)
    order = [name for name in ("train", "validation", "test") if name in by_split]
    return {name: by_split[name] for name in order}, [str(path.relative_to(folder)) for path in unnamed]


def _walk(folder: Path) -> Iterator[Path]:
    """Yield the files below a folder, hidden folders aside; raises FinetuneError for one that cannot be listed."""

    def refuse(problem: OSError) -> None:
        raise read_error(Path(problem.filename or folder), problem) from problem

    for place, below, files in os.walk(folder, onerror=refuse):
        below[:] = [name for name in below if not name.startswith((".", "_"))]
        yield from (Path(place, name) for name in files)


def _is_data(path: Path, folder: Path) -> bool:
    inside = path.relative_to(folder)
    hidden = any(part.startswith((".", "_")) for part in inside.parts)
    return not hidden and format_of(path) is not None and os.path.isfile(path) and not _NOT_DATA.fullmatch(path.name)


def _split_of(path: Path, folder: Path) -> str | None:
    """Return the split that the file's name tells, else the nearest folder's name."""
    names = [_stem(path), *reversed(path.relative_to(folder).parts[:-1])]
    for name in names:
        words = {SPLIT_WORDS[word] for word in re.split(r"[-_. 0-9]+", name.lower()) if word in SPLIT_WORDS}
        if len(words) > 1:
            raise FinetuneError(
                f"{path}: the name speaks of {join_words(sorted(words), 'and')}",
                "Say which split it is: dataset.data_files: {train: …, validation: …, test: …}",
            )
        if words:
            return words.pop()
    return None


def _check_one_dataset(folder: Path, split: str, paths: list[Path]) -> None:
    """Refuse several files for a split unless they are numbered shards of one."""
    parents = sorted({str(path.parent.relative_to(folder)) for path in paths})
    if len(parents) > 1:
        raise FinetuneError(
            f"{folder}: holds several datasets with a split {split}: {join_words(parents, 'and')}",
            f"Pick one: dataset.name: {parents[0] if parents[0] != '.' else parents[1]}",
        )
    in_split_folder = _split_word_in(paths[0].parent.name)
    endings = {format_of(path) for path in paths}
    stems = {_without_numbers(_stem(path)) for path in paths}
    if len(paths) > 1 and (len(endings) > 1 or (len(stems) > 1 and not in_split_folder)):
        raise FinetuneError(
            f"{folder}: several files could be the split {split}: {join_words((path.name for path in paths), 'and')}",
            f"Say which: dataset.data_files: {{{split}: {paths[0].name}}}",
        )


def _stem(path: Path) -> str:
    """Return a data file's name without the endings that tell its format."""
    return path.name.lower().removesuffix(".gz").rpartition(".")[0]


def _without_numbers(stem: str) -> str:
    """Return what shards of one file share: `train-00000-of-00002-ab12cd` and `train_2` are both numbered `train`."""
    return re.sub(r"[-_. ]?\d+", "#", re.sub(r"-\d{5}-of-\d{5}.*", "#", stem))


def _split_word_in(name: str) -> bool:
    return name.lower() in SPLIT_WORDS


def _config_folder(folder: Path, config: str) -> Path:
    below = sorted(child.name for child in folder.iterdir() if child.is_dir() and not child.name.startswith("."))
    if config in below:
        return folder / config
    near = did_you_mean(config, below)
    raise FinetuneError(
        f"dataset.name: {folder} has no folder {config}; there {'are' if len(below) != 1 else 'is'} "
        f"{join_words(below, 'and') or 'none'}",
        f"Did you mean {near}?" if near else "Leave dataset.name out to read the folder itself.",
    )


def _declared_in_readme(folder: Path, config: str | None) -> dict[str, list[Path]] | None:
    """Return the files that the `configs` of a hub repository's README list by split, or None without such a list."""
    configs = _readme_configs(folder)
    if not configs:
        return None
    names = [str(entry.get("config_name", "default")) for entry in configs]
    defaults = [entry for entry in configs if entry.get("default") or entry.get("config_name") == "default"]
    if config is not None:
        chosen = [entry for entry, name in zip(configs, names, strict=True) if name == config]
    else:
        chosen = configs if len(configs) == 1 else defaults
    if len(chosen) != 1:
        found = f"has no configuration {config}" if config else "has several configurations"
        near = did_you_mean(config, names) if config else None
        hint = f"Did you mean {near}?" if near else f"Pick one: dataset.name: {names[0]}"
        raise FinetuneError(f"{folder}: {found}; its README lists {join_words(names, 'and')}", hint)
    return _patterns_to_files(folder, chosen[0]["data_files"])


def _patterns_to_files(folder: Path, data_files: Any) -> dict[str, list[Path]]:
    if isinstance(data_files, str):
        data_files = [{"split": "train", "path": data_files}]
    listed: dict[str, list[Path]] = {}
    for entry in data_files:
        entry = entry if isinstance(entry, dict) else {"split": "train", "path": entry}
        patterns = [entry["path"]] if isinstance(entry["path"], str) else entry["path"]
        for pattern in patterns:
            if ".." in pattern.split("/") or pattern.startswith("/"):
                raise FinetuneError(f"{folder}/README.md: {pattern} leads out of the folder", "Use dataset.data_files.")
        listed.setdefault(str(entry["split"]), []).extend(expand(patterns, folder, str(entry["split"])))
    return listed


def _readme_configs(folder: Path) -> list[dict[str, Any]]:
    import yaml

    readme = folder / "README.md"
    if not readme.is_file():
        return []
    text = readme.read_text(encoding="utf-8", errors="replace")
    head = re.match(r"---\s*\n(.*?)\n---\s*(\n|$)", text, re.DOTALL)
    if head is None:
        return []
    try:
        content = yaml.safe_load(head.group(1))
    except yaml.YAMLError as problem:
        raise FinetuneError(
            f"{readme}: its YAML header cannot be read: {str(problem).splitlines()[0]}",
            "Mend it, or name the files: dataset.data_files: {train: …}",
        ) from problem
    configs = content.get("configs") if isinstance(content, dict) else None
    return [entry for entry in configs or [] if isinstance(entry, dict) and entry.get("data_files")]


def _nothing_found(folder: Path) -> FinetuneError:
    scripts = sorted(path.name for path in folder.glob("*.py"))
    if scripts:
        return FinetuneError(
            f"{folder}: holds a dataset script ({scripts[0]}) and no data files; scripts are never run",
            "Write the data as jsonl, csv or parquet, or name a copy of the dataset that is stored so.",
        )
    shown = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))[:8]
    return FinetuneError(
        f"{folder}: holds no data file ({', '.join('.' + name for name in FORMATS)})",
        f"It holds: {', '.join(shown) or 'nothing'}.",
    )
