"""finetune.models.adapters: every method on every family, merged, saved, loaded; clear refusals."""

import json
import shutil
import subprocess
import sys
import warnings

import pytest
import torch
from safetensors.torch import load_file, save_file

from finetune.errors import FinetuneError
from finetune.models.adapters import (
    frozen_digest,
    has_adapters,
    load_trained_tensors,
    merge_adapters,
    merged_weights,
    save_adapter,
    trained_tensors,
)
from finetune.models.build import build_model, open_checkpoint
from finetune.recipe.adapter_keys import Peft
from finetune.recipe.schema import Model
from finetune.tasks import LabelScheme, all_tasks
from tests.tiny import FAMILIES

TASK = all_tasks()["text-classification"]
LABELS = LabelScheme("single_label_classification", ("bad", "good", "so-so"))
LORA = Peft(method="lora", r=4, lora_alpha=8, lora_dropout=0.0, target_modules="all-linear")
METHODS = {"lora": LORA, "dora": LORA.model_copy(update={"use_dora": True}), "ia3": Peft(method="ia3")}
ONE_OF_EACH_KIND = ["bert", "gpt2", "t5"]
COMBINATIONS = [
    (method, family) for method in METHODS for family in (ONE_OF_EACH_KIND if method == "dora" else FAMILIES)
]


def lora(**changes):
    return LORA.model_copy(update=changes)


def build(folder, peft, **changes):
    """Return a model with adapters, as if they had been trained already, its checkpoint and a batch."""
    settings = Model(name_or_path=str(folder), **changes)
    checkpoint = open_checkpoint(settings)
    torch.manual_seed(3)
    model, _ = build_model(checkpoint, settings, TASK, LABELS, peft)
    with torch.no_grad():
        for parameter in model.parameters():
            if peft and parameter.requires_grad:
                parameter += 0.05 * torch.randn_like(parameter)
    batch = checkpoint.tokenizer(["a lovely day", "an awful meal again"], padding=True, return_tensors="pt")
    return model.eval(), checkpoint, batch


def is_adapter(name):
    return "lora_" in name or "ia3_" in name


@pytest.mark.parametrize(("method", "family"), COMBINATIONS)
def test_adapters_train_with_the_head_alone(method, family, checkpoints):
    model, _, batch = build(checkpoints(family), METHODS[method])
    assert has_adapters(model)
    model(**batch).logits.sum().backward()
    learning = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert learning == {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    inside = {id(parameter) for parameter in model.base_model.parameters()}
    for name, parameter in model.named_parameters():
        assert parameter.requires_grad == (is_adapter(name) or id(parameter) not in inside), name


@pytest.mark.parametrize(("method", "family"), COMBINATIONS)
def test_merged_model_is_an_ordinary_one_with_the_same_answers(method, family, checkpoints, tmp_path):
    from peft import PeftModel
    from transformers import AutoModelForSequenceClassification

    model, _, batch = build(checkpoints(family), METHODS[method])
    names = set(build(checkpoints(family), None)[0].state_dict())
    with torch.no_grad():
        before = model(**batch).logits
        merge_adapters(model)
        merge_adapters(model)  # nothing more happens
        assert set(merged_weights(model)) == names
        model.save_pretrained(tmp_path / "model", state_dict=merged_weights(model))
        save_adapter(model, tmp_path / "adapter", "owner/base", "abc")
        merged = AutoModelForSequenceClassification.from_pretrained(tmp_path / "model").eval()
        assert not has_adapters(merged)
        torch.testing.assert_close(merged(**batch).logits, before, atol=1e-5, rtol=1e-5)
        bare = AutoModelForSequenceClassification.from_config(merged.config).eval()
        bare.load_state_dict(build(checkpoints(family), None)[0].state_dict())
        loaded = PeftModel.from_pretrained(bare, tmp_path / "adapter").eval()
        torch.testing.assert_close(loaded(**batch).logits, before)
    assert sorted(path.name for path in (tmp_path / "adapter").iterdir()) == [
        "adapter_config.json", "adapter_model.safetensors",
    ]  # fmt: skip
    written = (tmp_path / "adapter" / "adapter_config.json").read_text()
    assert str(checkpoints(family)) not in written
    assert (json.loads(written)["base_model_name_or_path"], json.loads(written)["revision"]) == ("owner/base", "abc")


@pytest.mark.parametrize("family", ONE_OF_EACH_KIND)
def test_trained_tensors_hold_all_that_training_changes(family, checkpoints, tmp_path):
    trained, _, batch = build(checkpoints(family), LORA)
    save_file(trained_tensors(trained), tmp_path / "trained.safetensors")
    fresh, _, _ = build(checkpoints(family), LORA)
    with torch.no_grad():
        for parameter in fresh.parameters():
            if parameter.requires_grad:
                parameter.zero_()
        assert not torch.equal(fresh(**batch).logits, trained(**batch).logits)
        load_trained_tensors(fresh, load_file(tmp_path / "trained.safetensors"))
        assert torch.equal(fresh(**batch).logits, trained(**batch).logits)
    other, _, _ = build(checkpoints(family), lora(use_dora=True))
    with pytest.raises(FinetuneError, match=r"of other adapters: .*magnitude"):
        load_trained_tensors(other, load_file(tmp_path / "trained.safetensors"))


def test_frozen_digest_sees_the_frozen_weights_alone(checkpoints):
    model, _, _ = build(checkpoints("bert"), LORA)
    again, _, _ = build(checkpoints("bert"), LORA)
    before = frozen_digest(model)
    assert frozen_digest(again) == before
    with torch.no_grad():
        model.classifier.weight += 1
        model.bert.pooler.dense.lora_A["default"].weight += 1
    assert frozen_digest(model) == before
    with torch.no_grad():
        model.bert.embeddings.word_embeddings.weight[3, 3] += 1e-6
    assert frozen_digest(model) != before


def adapted(model):
    return sorted({name.rsplit(".lora_A", 1)[0] for name, _ in model.named_parameters() if ".lora_A" in name})


def test_target_modules_by_name_end_and_pattern(checkpoints):
    layers = [f"bert.encoder.layer.{n}.attention.self" for n in (0, 1)]
    for wanted, expected in [
        (["query", "value"], [f"{layer}.{name}" for layer in layers for name in ("query", "value")]),
        (["layer.1.attention.self.query"], [f"{layers[1]}.query"]),
        ("query", [f"{layer}.query" for layer in layers]),
        (r".*layer\.0\..*(query|key)", [f"{layers[0]}.key", f"{layers[0]}.query"]),
    ]:
        model, _, _ = build(checkpoints("bert"), lora(target_modules=wanted))
        assert adapted(model) == sorted(expected)


@pytest.mark.parametrize(
    ("wanted", "message", "hint"),
    [
        (
            ["query", "vlaue"],
            "peft.target_modules: vlaue matches no layer of BertForSeq",
            "Did you mean value? It has ",
        ),
        (["LayerNorm"], "peft.target_modules: LayerNorm is there, but .* no linear layer", "called query, key, value"),
        ("h.*attn", r"peft.target_modules: h\.\*attn matches no layer", "dense"),
        (["classifier"], "peft.target_modules: classifier is there, but it is frozen, trained in full", "dense"),
    ],
)
def test_unknown_target_modules_are_refused_with_those_that_exist(wanted, message, hint, checkpoints):
    with pytest.raises(FinetuneError, match=message) as caught:
        build(checkpoints("bert"), lora(target_modules=wanted))
    assert hint in caught.value.hint


def test_ia3_scales_the_input_of_feedforward_modules(checkpoints):
    settings = Peft(method="ia3", target_modules=["query", "intermediate.dense"])
    outside, _, _ = build(checkpoints("bert"), settings)
    inside, _, _ = build(
        checkpoints("bert"), settings.model_copy(update={"feedforward_modules": ["intermediate.dense"]})
    )
    shapes = [
        next(p.shape for name, p in model.named_parameters() if "intermediate.dense.ia3" in name)
        for model in (outside, inside)
    ]
    assert shapes == [(64, 1), (1, 32)]
    with pytest.raises(FinetuneError, match=r"feedforward_modules: .*value is not among the target_modules"):
        build(checkpoints("bert"), settings.model_copy(update={"feedforward_modules": ["value"]}))


def test_what_freeze_names_gets_no_adapter(checkpoints):
    model, _, _ = build(checkpoints("bert"), LORA, freeze=1)
    assert adapted(model)
    assert not [name for name in adapted(model) if ".layer.0." in name]
    assert [name for name in adapted(model) if ".layer.1." in name]
    with pytest.raises(FinetuneError, match=r"layer\.0\.attention\.self\.query is there, but it is frozen"):
        build(checkpoints("bert"), lora(target_modules=["layer.0.attention.self.query"]), freeze=1)


def test_weights_that_the_checkpoint_lacks_are_trained_in_full(checkpoints, tmp_path):
    folder = tmp_path / "no-pooler"
    shutil.copytree(checkpoints("bert"), folder)
    weights = load_file(folder / "model.safetensors")
    save_file(
        {name: tensor for name, tensor in weights.items() if not name.startswith("pooler")},
        folder / "model.safetensors",
        metadata={"format": "pt"},
    )
    model, _, _ = build(folder, LORA)
    assert model.bert.pooler.dense.weight.requires_grad
    assert not [name for name in adapted(model) if "pooler" in name]
    save_adapter(model, tmp_path / "adapter", "x", None)
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert config["modules_to_save"] == ["bert.pooler.dense", "classifier"]


def test_adapters_come_without_warnings(checkpoints):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        build(checkpoints("gpt2"), LORA)


def test_peft_is_imported_only_when_asked_for(checkpoints):
    code = (
        "import sys\n"
        "from finetune.models.build import build_model, open_checkpoint\n"
        "from finetune.recipe.schema import Model\n"
        "from finetune.tasks import LabelScheme, all_tasks\n"
        "import finetune.training.loop\n"
        f"settings = Model(name_or_path={str(checkpoints('bert'))!r})\n"
        "labels = LabelScheme('single_label_classification', ('a', 'b'))\n"
        "build_model(open_checkpoint(settings), settings, all_tasks()['text-classification'], labels)\n"
        "print('peft' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
