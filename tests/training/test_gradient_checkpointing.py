"""training.gradient_checkpointing: less memory, the same numbers, whatever is frozen."""

import pytest
import torch

from finetune.models.build import build_model, open_checkpoint
from finetune.recipe.adapter_keys import Peft
from finetune.recipe.schema import Model
from finetune.tasks import LabelScheme, all_tasks
from finetune.training.prepare import recompute_activations
from tests.marks import slowly
from tests.tiny import FAMILIES
from tests.training.conftest import read_log

TASK = all_tasks()["text-classification"]
LABELS = LabelScheme("single_label_classification", ("bad", "good"))
LORA = Peft(method="lora", r=4, lora_alpha=8, lora_dropout=0.2, target_modules="all-linear")
PARTS = {"whole": {}, "lower layers frozen": {"freeze": 1}, "head alone": {"freeze": "backbone"}, "lora": {}}


def step(folder, part, recompute):
    """Return the loss of a training step, its gradients by name, and the bytes that it kept for the backward pass."""
    settings = Model(name_or_path=str(folder), **PARTS[part])
    checkpoint = open_checkpoint(settings)
    torch.manual_seed(0)
    model, _ = build_model(checkpoint, settings, TASK, LABELS, LORA if part == "lora" else None)
    if recompute:
        recompute_activations(model)
    model.train()
    batch = checkpoint.tokenizer(["a lovely day", "an awful meal again and again"], padding=True, return_tensors="pt")
    kept = []
    torch.manual_seed(1)
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor):
        loss = torch.nn.functional.cross_entropy(model(**batch).logits, torch.tensor([1, 0]))
    loss.backward()
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    assert gradients.keys() == {name for name, p in model.named_parameters() if p.requires_grad}
    return loss, gradients, len(kept), torch.rand(3)


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("family", [family for family in FAMILIES if family != "openai-gpt"])
def test_recomputing_gives_the_same_loss_and_gradients(part, family, checkpoints):
    # With dropout: the masks of the recomputation are those of the forward pass, and the generator goes on from there.
    folder = checkpoints(family, 0.2)
    loss, gradients, kept, drawn = step(folder, part, recompute=False)
    again, same, kept_again, drawn_again = step(folder, part, recompute=True)
    assert torch.equal(loss, again)
    assert gradients.keys() == same.keys()
    assert [name for name in gradients if not torch.equal(gradients[name], same[name])] == []
    assert torch.equal(drawn, drawn_again)
    assert kept_again < kept or part == "head alone"


def test_family_that_cannot_recompute_is_one_clear_error(toy_recipe, finetune):
    code, _, err = finetune("run", toy_recipe("openai-gpt", training={"gradient_checkpointing": True}))
    assert code == 1
    assert "training.gradient_checkpointing: OpenAIGPTForSequenceClassification cannot recompute" in err


@pytest.mark.parametrize(
    "sections",
    [{}, *slowly([{"peft": {"method": "lora", "lora_dropout": 0.0}}, {"training": {"gradual_unfreezing": 0.5}}])],
)
def test_run_that_recomputes_equals_the_plain_run(sections, toy_recipe, finetune, tmp_path):
    # Within rounding and without dropout: only the plain run shares a step out among threads, with masks of its own.
    recipe = toy_recipe(**sections)
    losses = []
    for recompute in ("true", "false"):
        folder = tmp_path / recompute
        code, _, err = finetune("run", recipe, f"training.gradient_checkpointing={recompute}", f"output_dir={folder}")
        assert code == 0, err
        [directory] = folder.iterdir()
        losses.append([line["loss"] for line in read_log(directory) if "loss" in line])
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    assert losses[0][0] == pytest.approx(losses[1][0], rel=1e-6)
