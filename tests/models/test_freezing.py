"""finetune.models.freezing: what is frozen in every family, and what stays in evaluation mode."""

import pytest
import torch

from finetune.errors import FinetuneError
from finetune.models.build import build_model, open_checkpoint
from finetune.models.freezing import frozen_modules, layers_of
from finetune.recipe.schema import Model
from finetune.tasks import LabelScheme, all_tasks
from tests.tiny import FAMILIES

TASK = all_tasks()["text-classification"]
LABELS = LabelScheme("single_label_classification", ("bad", "good", "so-so"))


def settings(folder, **changes):
    return Model(name_or_path=str(folder), **changes)


def trained_names(model):
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


@pytest.mark.parametrize("family", FAMILIES)
def test_freeze_backbone_leaves_the_head_alone(family, checkpoints):
    wanted = settings(checkpoints(family), freeze="backbone")
    model, _ = build_model(open_checkpoint(wanted), wanted, TASK, LABELS)
    names = trained_names(model)
    assert names
    assert not any(name.startswith(model.base_model_prefix + ".") for name in names)


@pytest.mark.parametrize("family", FAMILIES)
def test_freeze_lower_layers_stops_embeddings_and_the_first_layer(family, checkpoints):
    wanted = settings(checkpoints(family), freeze=1)
    model, _ = build_model(open_checkpoint(wanted), wanted, TASK, LABELS)
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    assert id(model.get_input_embeddings().weight) in {id(p) for p in model.parameters() if not p.requires_grad}
    assert any(".0." in name for name in frozen)
    assert any(".1." in name for name in trained_names(model))


def test_freeze_more_layers_than_there_are_is_an_error(checkpoints):
    wanted = settings(checkpoints("bert"), freeze=7)
    with pytest.raises(FinetuneError, match=r"model.freeze: 7 layers asked, .* has 2"):
        build_model(open_checkpoint(wanted), wanted, TASK, LABELS)


def test_layers_of_t5_are_blocks_of_the_encoder_and_then_of_the_decoder(checkpoints):
    wanted = settings(checkpoints("t5"))
    model, _ = build_model(open_checkpoint(wanted), wanted, TASK, LABELS)
    backbone = model.base_model
    assert layers_of(backbone) == [*backbone.encoder.block, *backbone.decoder.block]


def test_frozen_modules_are_the_largest_that_are_frozen_as_a_whole(checkpoints):
    for what, names in [
        ("none", []),
        ("embeddings", ["embeddings"]),
        (1, ["embeddings", "encoder.layer.0"]),
        ("backbone", [""]),
    ]:
        wanted = settings(checkpoints("bert"), freeze=what)
        model, _ = build_model(open_checkpoint(wanted), wanted, TASK, LABELS)
        assert list(frozen_modules(model, what)) == [model.bert.get_submodule(name) for name in names]


def test_frozen_modules_hold_no_trained_weight(checkpoints):
    for family in FAMILIES:
        wanted = settings(checkpoints(family), freeze=1)
        model, _ = build_model(open_checkpoint(wanted), wanted, TASK, LABELS)
        frozen = [p for module in frozen_modules(model, 1) for p in module.parameters()]
        assert frozen
        assert not any(isinstance(p, torch.nn.Parameter) and p.requires_grad for p in frozen)
