"""Adapters through peft: small additions that are trained while the checkpoint's weights stay frozen.

They are put inside the model, which keeps its class and its names, and are merged into its weights at the end. peft is
imported only when a recipe asks for it.
"""

from __future__ import annotations

import copy
import hashlib
import re
import warnings
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetune.errors import FinetuneError
from finetune.recipe.adapter_keys import ALL_LINEAR
from finetune.text import did_you_mean, join_words

if TYPE_CHECKING:
    import torch

    from finetune.recipe.adapter_keys import Peft

ADAPTER_FOLDER = "adapter"
_NAME = "default"  # peft's name for the only adapter of a model
_BARE_NAME = re.compile(r"[\w.]+")


def add_adapters(model: Any, settings: Peft, new_weights: Collection[str] = ()) -> None:
    """Put adapters into a model and freeze the rest, in place.

    Trained are the adapters, the head, and `new_weights`: what the checkpoint did not hold, as a frozen random layer
    would be noise. What is frozen already gets no adapter. Draws the adapters' first weights (seed torch first).
    Raises FinetuneError when target_modules names what the model does not have.
    """
    from peft import inject_adapter_in_model

    inside = {id(parameter) for parameter in model.base_model.parameters()}
    named = dict(model.named_parameters())
    in_full = [named[name] for name in named if id(named[name]) not in inside or name in new_weights]
    config = _configuration(model, settings, _candidates(model, {id(parameter) for parameter in in_full}))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # how GPT-2 stores its matrices is settled without the user
        inject_adapter_in_model(config, model, adapter_name=_NAME)
    for parameter in in_full:
        parameter.requires_grad_(True)


def has_adapters(model: Any) -> bool:
    """Tell whether add_adapters was here."""
    return isinstance(getattr(model, "peft_config", None), dict)


def reads_weights(model: Any) -> bool:
    """Tell whether adapters compute with the numbers of the weights and not only with what the layers give (DoRA)."""
    return has_adapters(model) and bool(getattr(model.peft_config[_NAME], "use_dora", False))


def trained_tensors(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Return what training changes in a model with adapters, by name: a view, not a copy."""
    return {name: tensor.detach().contiguous() for name, tensor in model.named_parameters() if tensor.requires_grad}


def load_trained_tensors(model: torch.nn.Module, tensors: Mapping[str, torch.Tensor]) -> None:
    """Put back what trained_tensors returned; raises FinetuneError when it is of other adapters."""
    wanted = trained_tensors(model).keys()
    if wanted != tensors.keys():
        odd = sorted(wanted ^ tensors.keys())
        raise FinetuneError(f"the checkpoint is of other adapters: {odd[0]}", "Start a new run without --resume.")
    model.load_state_dict(dict(tensors), strict=False)


def frozen_digest(model: torch.nn.Module) -> str:
    """Return what identifies the frozen weights, which checkpoints of adapters leave out.

    The bits of each tensor are summed as whole numbers: exact, whatever the order and the device.
    """
    import torch

    whole = {2: torch.int16, 4: torch.int32, 8: torch.int64}
    digest = hashlib.sha256()
    for name, tensor in model.named_parameters():
        if not tensor.requires_grad:
            total = tensor.detach().view(whole[tensor.element_size()]).sum(dtype=torch.int64).item()
            digest.update(f"{name} {tuple(tensor.shape)} {total}\n".encode())
    return digest.hexdigest()[:16]


def merge_adapters(model: torch.nn.Module) -> None:
    """Add the adapters to the weights they sit on, in place; they themselves stay as they are.

    Nothing happens without adapters, or when they are merged already. Frozen weights are others afterwards.
    """
    if not has_adapters(model):
        return
    from peft.tuners.tuners_utils import BaseTunerLayer

    for module in model.modules():
        if isinstance(module, BaseTunerLayer) and not module.merged:
            module.merge()


def save_adapter(model: Any, folder: Path, base: str, revision: str | None) -> None:
    """Write the adapters and what is trained in full as peft reads it: PeftModel.from_pretrained(model, folder).

    `base` names the checkpoint they belong to.
    """
    from peft import get_peft_model_state_dict
    from safetensors.torch import save_file

    adapters = get_peft_model_state_dict(model, adapter_name=_NAME, save_embedding_layers=False)
    in_full = {name: tensor for name, tensor in trained_tensors(model).items() if not _is_adapter(name)}
    folder.mkdir(parents=True)
    tensors = {f"base_model.model.{name}": tensor.contiguous() for name, tensor in {**adapters, **in_full}.items()}
    save_file(tensors, str(folder / "adapter_model.safetensors"), metadata={"format": "pt"})
    config = copy.copy(model.peft_config[_NAME])
    for key in ("target_modules", "feedforward_modules"):
        if isinstance(names := getattr(config, key, None), set):
            setattr(config, key, sorted(names))  # a set is written in another order every time
    config.modules_to_save = sorted({_module_to_save(name, model.base_model_prefix) for name in in_full})
    config.base_model_name_or_path, config.revision = base, revision
    config.save_pretrained(folder)


def merged_weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Return the weights of a model with merged adapters under the names that an ordinary model has."""
    return {
        name.replace(".base_layer.", "."): tensor
        for name, tensor in model.state_dict().items()
        if not _is_adapter(name)
    }


def _is_adapter(name: str) -> bool:
    return any(part.startswith(("lora_", "ia3_")) for part in name.split("."))


def _module_to_save(parameter: str, backbone: str) -> str:
    """Return the module that peft saves whole: a part of the head, or the layer of a new weight in the backbone."""
    return parameter.rpartition(".")[0] if parameter.startswith(f"{backbone}.") else parameter.split(".")[0]


def _candidates(model: Any, in_full: set[int]) -> dict[str, Any]:
    """Return the linear layers that may get an adapter, by name: not frozen, and not trained in full."""
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | Conv1D)
        and module.weight.requires_grad
        and not any(id(parameter) in in_full for parameter in module.parameters())
    }


def _configuration(model: Any, settings: Peft, candidates: Mapping[str, Any]) -> Any:
    """Return peft's configuration of the adapters, its targets written out by name."""
    from transformers.pytorch_utils import Conv1D

    wanted, feedforward = settings.target_modules, settings.feedforward_modules
    if settings.method == "ia3" and wanted is None:
        wanted, usual = _usual_ia3_modules(model.config.model_type)
        feedforward = feedforward or usual
    targets = _matching(wanted or ALL_LINEAR, candidates, model, "target_modules")
    # GPT's family stores its matrices the other way round.
    turned = any(isinstance(candidates[name], Conv1D) for name in targets)
    if settings.method == "ia3":
        from peft import IA3Config

        scaled_at_input = _matching(feedforward, candidates, model, "feedforward_modules") if feedforward else []
        if left_out := sorted(set(scaled_at_input) - set(targets)):
            raise FinetuneError(
                f"peft.feedforward_modules: {left_out[0]} is not among the target_modules",
                "Name it in peft.target_modules too.",
            )
        return IA3Config(target_modules=targets, feedforward_modules=scaled_at_input, fan_in_fan_out=turned)
    from peft import LoraConfig

    return LoraConfig(
        r=settings.r,
        lora_alpha=settings.lora_alpha,
        lora_dropout=settings.lora_dropout,
        use_dora=settings.use_dora,
        use_rslora=settings.use_rslora,
        target_modules=targets,
        fan_in_fan_out=turned,
    )


def _usual_ia3_modules(model_type: str) -> tuple[list[str] | None, list[str] | None]:
    from peft.utils import (
        TRANSFORMERS_MODELS_TO_IA3_FEEDFORWARD_MODULES_MAPPING,
        TRANSFORMERS_MODELS_TO_IA3_TARGET_MODULES_MAPPING,
    )

    targets = TRANSFORMERS_MODELS_TO_IA3_TARGET_MODULES_MAPPING.get(model_type)
    return targets, TRANSFORMERS_MODELS_TO_IA3_FEEDFORWARD_MODULES_MAPPING.get(model_type) if targets else None


def _matching(wanted: str | list[str], candidates: Mapping[str, Any], model: Any, key: str) -> list[str]:
    """Return the names of the layers that are meant; raises FinetuneError for a name or pattern that meets none."""
    if wanted == ALL_LINEAR:
        found = set(candidates)
        missed = [] if found else [ALL_LINEAR]
    elif isinstance(wanted, str) and not _BARE_NAME.fullmatch(wanted):
        found = {name for name in candidates if re.fullmatch(wanted, name)}
        missed = [] if found else [wanted]
    else:
        asked = [wanted] if isinstance(wanted, str) else wanted
        met = {end: {name for name in candidates if name == end or name.endswith(f".{end}")} for end in asked}
        found = {name for names in met.values() for name in names}
        missed = [end for end, names in met.items() if not names]
    if missed:
        raise _not_there(missed[0], candidates, model, key)
    return sorted(found)


def _not_there(asked: str, candidates: Mapping[str, Any], model: Any, key: str) -> FinetuneError:
    ends = list(dict.fromkeys(name.rpartition(".")[2] for name in candidates))
    everywhere = {name for name, _ in model.named_modules()}
    exists = any(name == asked or name.endswith(f".{asked}") for name in everywhere)
    why = "is there, but it is frozen, trained in full, or no linear layer" if exists else "matches no layer"
    near = did_you_mean(asked, ends)
    hint = f"Did you mean {near}? " if near else ""
    has = f"It has linear layers called {join_words(ends, 'and')}" if ends else "All of its layers are frozen"
    return FinetuneError(f"peft.{key}: {asked} {why} of {type(model).__name__}", f"{hint}{has}.")
