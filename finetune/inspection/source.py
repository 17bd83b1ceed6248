"""Where a checkpoint lies, and the light half of it: its configuration and the header of its weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune.errors import FinetuneError
from finetune.hub import go_offline_if_unreachable
from finetune.inspection.weights import SINGLE, Tensor, Weights, read_folder, weights_from
from finetune.package_paths import is_package_path, resolve_package_path
from finetune.runs.record import RECORD_NAME, find_run, names_a_run, read_run
from finetune.runs.usable import model_folder
from finetune.text import join_words

_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.h5", "*.msgpack", "*.onnx", "*.gguf")


@dataclass(frozen=True)
class Source:
    """The light half of a checkpoint; `place` is what loads it: a folder or a hub id.

    weights is None where there is no header to read, and `notes` say why.
    """

    reference: str
    place: str
    config: Mapping[str, Any]
    weights: Weights | None
    notes: tuple[str, ...] = ()
    revision: str | None = None


def open_source(reference: str, output_dir: Path, revision: str | None = None) -> Source:
    """Return the light half of a checkpoint: a folder, package:…, a run (its id, name or folder) or a hub id.

    Of a checkpoint on the hub, config.json and the header of the weights are fetched, no weights. Raises FinetuneError
    when there is no such checkpoint or its configuration cannot be read.
    """
    if not reference.strip():
        raise FinetuneError("no checkpoint is named", "Name a hub id, a folder, package:… or a run.")
    folder = resolve_package_path(reference) if is_package_path(reference) else _folder(reference, output_dir)
    if folder is not None:
        return _from_folder(reference, folder)
    return _from_hub(reference, revision)


def _folder(reference: str, output_dir: Path) -> Path | None:
    path = Path(reference).expanduser() if not reference.startswith("~") or reference[1:2] in ("", "/") else None
    if path is not None and path.is_dir():
        return model_folder(read_run(path)) if (path / RECORD_NAME).is_file() else path
    if path is not None and path.is_file():
        raise FinetuneError(f"{reference} is a file, and a checkpoint is a folder", f"Name its folder: {path.parent}")
    if names_a_run(reference, output_dir):
        return model_folder(read_run(find_run(reference, output_dir)))
    if reference.startswith(("/", "./", "../", "~")) or reference.count("/") > 1:
        raise FinetuneError(f"{reference}: no such folder", "Name a hub id, a folder, package:… or a run.")
    return None


def _from_folder(reference: str, folder: Path) -> Source:
    if not (folder / "config.json").is_file():
        found = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
        held = f"; it holds {join_words(found[:6], 'and')}" if found else ""
        raise FinetuneError(
            f"{reference}: no config.json in {folder}{held}",
            "A checkpoint is what save_pretrained writes: config.json beside its weights.",
        )
    config = _config(folder / "config.json")
    weights = read_folder(folder)
    if weights is not None:
        return Source(reference, str(folder), config, weights)
    others = sorted({path.name for pattern in _PICKLES for path in folder.glob(pattern)})
    return Source(reference, str(folder), config, None, (_no_header(others),))


def _no_header(others: list[str]) -> str:
    if not others:
        return "no weights are beside config.json, so parameters, size and memory are not known"
    return (
        f"the weights are in {join_words(others[:4], 'and')}, which is not opened (a pickle can run code): parameters, "
        "size and memory are not known; finetune loads safetensors only, and save_pretrained of transformers writes it"
    )


def _config(path: Path) -> Mapping[str, Any]:
    try:
        config = json.loads(path.read_bytes().decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise FinetuneError(f"{path}: not valid JSON: {error}", "Copy the checkpoint anew.") from error
    if not isinstance(config, dict) or not isinstance(config.get("model_type"), str):
        raise FinetuneError(
            f"{path}: no model_type, so it is not the configuration of a model of transformers",
            "Adapters and other tools keep a config.json too; name the folder of the base model.",
        )
    return config


def _from_hub(reference: str, revision: str | None) -> Source:
    unreachable = go_offline_if_unreachable([reference])
    from huggingface_hub import HfApi, hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        NotASafetensorsRepoError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    notes = [unreachable] if unreachable else []
    try:
        path = Path(hf_hub_download(reference, "config.json", revision=revision))
    except (GatedRepoError, RepositoryNotFoundError, HFValidationError) as error:
        raise _not_found(reference, isinstance(error, GatedRepoError)) from error
    except RevisionNotFoundError as error:
        raise FinetuneError(
            f"{reference} has no revision {revision}", "Leave --revision out to take the newest."
        ) from error
    except (LocalEntryNotFoundError, OfflineModeIsEnabled) as error:  # before EntryNotFoundError, its own class
        raise FinetuneError(
            f"{reference} is no folder and no run here; the hub cannot be asked, and the cache lacks its config.json",
            "Check the name; without a network name a folder, or package:<python package>/<folder>. "
            "`finetune doctor` checks the hub.",
        ) from error
    except EntryNotFoundError as error:
        raise FinetuneError(
            f"{reference} has no config.json on the hub", "Only checkpoints of transformers can be inspected."
        ) from error
    except (HfHubHTTPError, OSError) as error:
        raise FinetuneError(f"{reference}: the hub gave no answer: {error}", "`finetune doctor` checks it.") from error
    config, commit = _config(path), path.parent.name
    cached = try_to_load_from_cache(reference, SINGLE, revision=commit)
    if isinstance(cached, str):
        return Source(reference, reference, config, read_folder(Path(cached).parent), tuple(notes), commit)
    try:
        metadata = HfApi().get_safetensors_metadata(reference, revision=commit)
    except NotASafetensorsRepoError:
        notes.append(_no_header(["another format than safetensors"]))
    except (OfflineModeIsEnabled, HfHubHTTPError, OSError):
        notes.append("the header of the weights is not in the cache: parameters, size and memory are not known")
    else:
        files = metadata.files_metadata.values()
        tensors = [Tensor(name, info.dtype, tuple(info.shape)) for file in files for name, info in file.tensors.items()]
        weights = weights_from(tensors, sum(tensor.bytes for tensor in tensors))
        return Source(reference, reference, config, weights, tuple(notes), commit)
    return Source(reference, reference, config, None, tuple(notes), commit)


def _not_found(reference: str, is_gated: bool) -> FinetuneError:
    if is_gated:
        return FinetuneError(
            f"{reference} is gated: its owners grant access one by one",
            f"Ask for access at https://huggingface.co/{reference}, then: hf auth login",
        )
    return FinetuneError(
        f"{reference}: no such folder, run or checkpoint on the hub",
        "Check the name; finetune list shows the runs. A private checkpoint needs: hf auth login",
    )
