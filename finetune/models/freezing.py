"""What of a model is not trained: the embeddings, lower layers, or the whole backbone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from finetune.errors import FinetuneError

if TYPE_CHECKING:
    import torch


def freeze(model: Any, what: str | int) -> None:
    """Stop training the embeddings, the whole backbone, or the embeddings and the given number of lower layers.

    Raises FinetuneError when the model has fewer layers than asked.
    """
    if what == "none":
        return
    backbone = model.base_model
    if what == "backbone":
        backbone.requires_grad_(False)
        return
    layers = layers_of(backbone)
    count = what if isinstance(what, int) else 0
    if count > len(layers):
        raise FinetuneError(
            f"model.freeze: {count} layers asked, {type(model).__name__} has {len(layers)}",
            f"Set model.freeze to {len(layers)} or less, to embeddings, or to backbone.",
        )
    upper = {id(parameter) for layer in layers[count:] for parameter in layer.parameters()}
    kept = {id(parameter) for parameter in after_layers(backbone, layers)} | upper
    for parameter in backbone.parameters():
        if id(parameter) not in kept:
            parameter.requires_grad_(False)


def layers_of(backbone: Any) -> list[Any]:
    """Return the transformer layers from the bottom up: the longest ModuleList (encoder's first, then decoder's).

    Lists inside a list are parts of a layer (T5's three blocks), however long.
    """
    lists = _outermost_lists(backbone)
    deepest = max((len(found) for found in lists), default=0)
    return [layer for found in lists if len(found) == deepest for layer in found]


def _outermost_lists(module: Any) -> list[Any]:
    from torch import nn

    if isinstance(module, nn.ModuleList):
        return [module]
    return [found for child in module.children() for found in _outermost_lists(child)]


def frozen_modules(model: Any, what: str | int) -> tuple[Any, ...]:
    """Return the largest modules that `freeze` froze as a whole, those inside them left out.

    They stay in evaluation mode while the rest trains: dropout in weights that never change would only add noise, and
    what they compute for a row is then the same in every epoch.
    """
    if what in ("none", "backbone"):
        return () if what == "none" else (model.base_model,)
    upper = layers_of(model.base_model)[what if isinstance(what, int) else 0 :]
    return tuple(_wholly_frozen(model.base_model, {id(layer) for layer in upper}))


def _wholly_frozen(module: Any, trained: set[int]) -> list[Any]:
    if id(module) in trained:
        return []
    parameters = list(module.parameters())
    if parameters and not any(parameter.requires_grad for parameter in parameters):
        return [module]
    return [found for child in module.children() for found in _wholly_frozen(child, trained)]


def after_layers(backbone: Any, layers: list[Any]) -> list[torch.nn.Parameter]:
    """Return what comes after the layers (pooler, final norm): it stays trainable, as it reads what they write."""
    inside = {id(parameter) for layer in layers for parameter in layer.parameters()}
    names = [(name, parameter) for name, parameter in backbone.named_parameters() if id(parameter) not in inside]
    return [
        parameter for name, parameter in names if "embed" not in name and not name.startswith(("wte", "wpe", "shared"))
    ]
