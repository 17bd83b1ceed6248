"""The trainable parameters of a model by their depth: the head first, then layer by layer down to the embeddings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from finetune.models.freezing import after_layers, layers_of

if TYPE_CHECKING:
    import torch


def parameters_by_depth(model: Any) -> list[list[torch.nn.Parameter]]:
    """Return the trainable parameters in groups from the top; every group of the model is there, empty or not.

    First the head and what comes after the layers (pooler, final norm), then each layer, the topmost first (of an
    encoder-decoder the decoder's layers, then the encoder's), and last the embeddings with all that is left.
    """
    backbone = model.base_model
    layers = layers_of(backbone)
    depth_of = {id(parameter): 0 for parameter in after_layers(backbone, layers)}
    for depth, layer in enumerate(reversed(layers), 1):
        depth_of.update((id(parameter), depth) for parameter in layer.parameters())
    inside = {id(parameter) for parameter in backbone.parameters()}
    groups: list[list[torch.nn.Parameter]] = [[] for _ in range(len(layers) + 2)]
    for parameter in model.parameters():
        if parameter.requires_grad:
            bottom = len(layers) + 1 if id(parameter) in inside else 0
            groups[depth_of.get(id(parameter), bottom)].append(parameter)
    return groups
