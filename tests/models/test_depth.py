"""finetune.models.depth: the order of the layers in every family."""

import pytest

from finetune.models.build import build_model, open_checkpoint
from finetune.models.depth import parameters_by_depth
from finetune.recipe.adapter_keys import Peft
from finetune.recipe.schema import Model
from finetune.tasks import LabelScheme, all_tasks
from tests.tiny import FAMILIES

TASK = all_tasks()["text-classification"]
LABELS = LabelScheme("single_label_classification", ("bad", "good"))


def names_by_depth(folder, peft=None, **changes):
    settings = Model(name_or_path=str(folder), **changes)
    model, _ = build_model(open_checkpoint(settings), settings, TASK, LABELS, peft)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return model, [[names[id(parameter)] for parameter in group] for group in parameters_by_depth(model)]


@pytest.mark.parametrize("family", FAMILIES)
def test_depth_holds_every_parameter_once_head_first_embeddings_last(family, checkpoints):
    model, groups = names_by_depth(checkpoints(family))
    found = [name for group in groups for name in group]
    assert sorted(found) == sorted(name for name, _ in model.named_parameters())
    assert len(groups) == {"bart": 6, "t5": 6}.get(family, 4)
    head = [name for name in found if not name.startswith(model.base_model_prefix + ".")]
    assert head
    assert set(head) <= set(groups[0])
    embeddings = id(model.get_input_embeddings().weight)
    assert embeddings in {id(model.get_parameter(name)) for name in groups[-1]}
    assert not [name for name in groups[0] if "embed" in name or ".0." in name or ".1." in name]


@pytest.mark.parametrize("family", FAMILIES)
def test_depth_goes_from_the_top_layer_down(family, checkpoints):
    _, groups = names_by_depth(checkpoints(family))
    for place, group in enumerate(groups[1:-1]):
        layer = 1 - place % 2
        assert all(f".{layer}." in name for name in group)
        if len(groups) == 6:
            assert all((".decoder." in name) == (place < 2) for name in group)


def test_depth_keeps_its_count_when_layers_are_frozen_or_adapted(checkpoints):
    _, groups = names_by_depth(checkpoints("bert"), freeze=1)
    assert [bool(group) for group in groups] == [True, True, False, False]
    lora = Peft(method="lora", r=2, lora_alpha=4, lora_dropout=0.0, target_modules=["query"])
    _, groups = names_by_depth(checkpoints("bert"), peft=lora)
    assert [bool(group) for group in groups] == [True, True, True, False]
    assert all("layer.1" in name and "lora_" in name for name in groups[1])
