"""Datasets from the hub, with what goes wrong there put into words."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from finetune.data.arrow_files import part_from_dataset
from finetune.data.raw import CHUNK_ROWS, Part, Piece, RawSplit, class_names, memory_part
from finetune.data.spool import spool
from finetune.errors import FinetuneError
from finetune.hub import causes, connection_problem
from finetune.text import did_you_mean, join_words

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_COMMIT = re.compile(r"[0-9a-f]{40}")


def is_hub_id(path: str) -> bool:
    """Tell whether a reference has the form of a hub id: `name` or `owner/name`."""
    return re.fullmatch(r"[A-Za-z0-9][\w.-]*(/[\w][\w.-]*)?", path) is not None


def read_hub(
    path: str,
    name: str | None,
    revision: str | None,
    data_files: Mapping[str, str | Sequence[str]] | None = None,
    streaming: bool = False,
) -> tuple[dict[str, RawSplit], str | None, tuple[str, ...]]:
    """Load every split of a hub dataset, or open it to be streamed: (splits, resolved commit, notes).

    HF_ENDPOINT, HF_HUB_OFFLINE and the caches of datasets are respected; no code of the repository is run.
    Raises FinetuneError.
    """
    import datasets

    kwargs = {"data_files": dict(data_files)} if data_files else {}
    try:
        builder = datasets.load_dataset_builder(path, name=name, revision=revision, **kwargs)
        commit = builder.hash if _COMMIT.fullmatch(str(builder.hash)) else None
        if streaming:
            splits = {
                split: RawSplit(split, (_streamed_part(dataset, f"{path} ({split})"),))
                for split, dataset in builder.as_streaming_dataset().items()
            }
        else:
            builder.download_and_prepare()
            splits = {
                split: RawSplit(split, (part_from_dataset(dataset, f"{path} ({split})"),))
                for split, dataset in builder.as_dataset().items()
            }
    except Exception as problem:
        raise _translated(problem, path, name, revision) from problem
    if revision and _COMMIT.fullmatch(revision) and commit not in (None, revision):
        raise FinetuneError(
            f"{path}: revision {revision} is not in the cache, which holds {commit}",
            "Run once with a network, or name the cached revision.",
        )
    return splits, commit, _offline_note(builder, path, commit)


def hub_columns(path: str) -> dict[str, RawSplit]:
    """Return the splits of a hub dataset with the types of their columns, as its card tells, else by its first rows.

    They hold no rows, or only the first; `rows` counts those that the card tells of. Raises FinetuneError.
    """
    import datasets

    try:
        info = datasets.load_dataset_builder(path).info
    except Exception as problem:
        raise _translated(problem, path, None, None) from problem
    if not info.features or not info.splits:
        return read_hub(path, None, None, streaming=True)[0]
    named = class_names(info.features.to_dict())
    part = memory_part(path, info.features.arrow_schema.empty_table(), class_names=named)
    return {name: RawSplit(name, (replace(part, rows=split.num_examples or 0),)) for name, split in info.splits.items()}


def _streamed_part(dataset: Any, where: str) -> Part:
    """Wrap a datasets.IterableDataset: rows are fetched while they are read."""
    import pyarrow

    def stream(columns: Sequence[str]) -> Iterator[Piece]:
        chosen = dataset.select_columns(list(columns)) if columns else dataset
        try:
            for table in chosen.with_format("arrow").iter(batch_size=CHUNK_ROWS):
                yield from ((batch, None) for batch in table.to_batches())
        except Exception as problem:
            raise _translated(problem, where, None, None) from problem

    def load() -> Part:
        batches = spool(batch for batch, _ in stream(()))
        return memory_part(where, pyarrow.Table.from_batches(batches), class_names=named)

    features = dataset.features.to_dict() if dataset.features else {}
    named = class_names(features)
    first = next(stream(()), None)
    if first is None:
        raise FinetuneError(f"{where}: holds no rows", "Name another split or configuration.")
    part = memory_part(where, pyarrow.Table.from_batches([first[0]]), class_names=named)
    return replace(part, rows=0, stream=stream, load=load)


def _offline_note(builder: Any, path: str, commit: str | None) -> tuple[str, ...]:
    # Without a hub, datasets takes the newest copy of its cache, by a builder of that name.
    if type(builder).__module__.endswith(".cache.cache"):
        return (f"{path}: the hub could not be asked; the copy in the cache was used ({commit or 'no commit known'}).",)
    return ()


def _translated(problem: Exception, path: str, name: str | None, revision: str | None) -> FinetuneError:
    """Put an exception of datasets or huggingface_hub into words; the first line of others is kept."""
    text = str(problem)
    chain = [type(error).__name__ for error in causes(problem)]
    if broken := connection_problem(problem):
        return FinetuneError(f"{path}: {broken[0]}", broken[1])
    if listed := re.search(r"available configs: (\[.*?\])|Available: (\[.*?\])", text):
        return _config_error(path, name, re.findall(r"'([^']+)'", listed.group(0)))
    if listed := re.search(r"multiple '.*?' configurations in the cache: (.*)", text):
        return _config_error(path, name, listed.group(1).split(", "))
    if name is not None and re.search(r"Couldn't find cache for .* for config", text):
        cached = re.search(r"Available configs in the cache: \[(.*)\]", text)
        names = re.findall(r"'([^']+)'", cached.group(1)) if cached else []
        has = f", which has {join_words(names, 'and')}" if names else ""
        return FinetuneError(f"configuration {name} of {path} is not in the cache{has}", "Run once with a network.")
    if "scripts are no longer supported" in text:
        return FinetuneError(
            f"{path}: this dataset is a script, and scripts are never run",
            "Look on the hub for a copy stored as parquet (often under the author's name), or for the branch "
            "refs/convert/parquet: dataset.revision: refs/convert/parquet",
        )
    if "gated" in text:
        return FinetuneError(
            f"{path}: this dataset is gated: its owners grant access one by one",
            f"Ask for access at https://huggingface.co/datasets/{path}, then: hf auth login",
        )
    if ("Revision" in text and "doesn't exist" in text) or "RevisionNotFoundError" in chain:
        return FinetuneError(f"{path}: has no revision {revision}", "Leave dataset.revision out to take the newest.")
    if {"OfflineModeIsEnabled", "ConnectError", "ConnectTimeout", "ConnectionError", "TimeoutException"} & set(chain):
        return FinetuneError(
            f"{path}: the hub cannot be reached, and the dataset is not in the cache",
            "Check the network (HF_ENDPOINT, HF_HUB_OFFLINE), or use local files: dataset.path: data/train.csv",
        )
    if "doesn't exist on the Hub" in text or {"DatasetNotFoundError", "RepositoryNotFoundError"} & set(chain):
        return FinetuneError(
            f"{path}: no such dataset on the hub, or it is private, and no such file or folder here",
            "Check the spelling; for a private dataset: hf auth login",
        )
    if "EmptyDatasetError" in chain or "DataFilesNotFoundError" in chain:
        return FinetuneError(f"{path}: the repository holds no data files", "Name another dataset.")
    first = text.strip().splitlines()[0] if text.strip() else type(problem).__name__
    return FinetuneError(
        f"{path}: cannot be loaded from the hub: {type(problem).__name__}: {first}",
        "Try again; if it stays so, download the files and name them: dataset.data_files: {train: …}",
    )


def _config_error(path: str, name: str | None, configs: list[str]) -> FinetuneError:
    shown = join_words(configs[:20], "and") + (" …" if len(configs) > 20 else "")
    if name is None:
        return FinetuneError(
            f"{path}: has several configurations: {shown}", f"Pick one: dataset.name: {configs[0] if configs else '…'}"
        )
    near = did_you_mean(name, configs)
    return FinetuneError(
        f"{path}: has no configuration {name}; it has {shown}",
        f"dataset.name: {near}" if near else "Pick one of them: dataset.name",
    )
