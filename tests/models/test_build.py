"""finetune.models.build: checkpoints of every family, heads, frozen parts, clear refusals."""

import json
import shutil

import pytest
import torch

from finetune.errors import FinetuneError
from finetune.models.build import build_model, open_checkpoint
from finetune.models.shrink import shrink_config
from finetune.recipe.schema import Model
from finetune.tasks import LabelScheme, all_tasks
from tests.tiny import FAMILIES

TASK = all_tasks()["text-classification"]
LABELS = LabelScheme("single_label_classification", ("bad", "good", "so-so"))


def settings(folder, **changes):
    return Model(name_or_path=str(folder), **changes)


@pytest.mark.parametrize("family", FAMILIES)
def test_build_model_puts_a_head_on_every_family(family, checkpoints):
    wanted = settings(checkpoints(family))
    checkpoint = open_checkpoint(wanted)
    model, notes = build_model(checkpoint, wanted, TASK, LABELS)
    assert model.config.id2label == {0: "bad", 1: "good", 2: "so-so"}
    assert model.config.pad_token_id == checkpoint.tokenizer.pad_token_id is not None
    assert any("new weights" in note for note in notes)
    batch = checkpoint.tokenizer(["a lovely day", "an awful meal again"], padding=True, return_tensors="pt")
    model.eval()
    logits = model(**batch).logits
    assert logits.shape == (2, 3)
    assert torch.isfinite(logits).all()
    alone = checkpoint.tokenizer(["a lovely day"], return_tensors="pt")
    assert torch.allclose(model(**alone).logits[0], logits[0], atol=1e-5)  # padding changes nothing


def test_build_model_loads_the_weights_that_are_there(checkpoints):
    from transformers import AutoModel

    saved = AutoModel.from_pretrained(checkpoints("bert"))
    wanted = settings(checkpoints("bert"))
    model, _ = build_model(open_checkpoint(wanted), wanted, TASK, LABELS)
    assert torch.equal(model.bert.encoder.layer[1].output.dense.weight, saved.encoder.layer[1].output.dense.weight)


def test_build_model_from_scratch_keeps_the_architecture_and_not_the_weights(checkpoints):
    wanted = settings(checkpoints("bert"), init="scratch")
    checkpoint = open_checkpoint(wanted)
    torch.manual_seed(5)
    scratch, _ = build_model(checkpoint, wanted, TASK, LABELS)
    pretrained, _ = build_model(checkpoint, settings(checkpoints("bert")), TASK, LABELS)
    shapes = [{name: p.shape for name, p in model.named_parameters()} for model in (scratch, pretrained)]
    assert shapes[0] == shapes[1]
    name = "bert.encoder.layer.0.attention.self.query.weight"
    assert not torch.equal(scratch.get_parameter(name), pretrained.get_parameter(name))


@pytest.mark.parametrize("family", ["openai-gpt", "gpt2"])
def test_open_checkpoint_gives_gpt_a_padding_token_and_says_so(family, checkpoints):
    checkpoint = open_checkpoint(settings(checkpoints(family)))
    assert checkpoint.tokenizer.pad_token_id is not None
    assert "padding token" in checkpoint.notes[0]


@pytest.mark.parametrize("family", ["gpt2", "bart", "opt"])
def test_build_model_keeps_no_keys_and_values(family, checkpoints):
    wanted = settings(checkpoints(family))
    checkpoint = open_checkpoint(wanted)
    model, _ = build_model(checkpoint, wanted, TASK, LABELS)
    assert model.eval()(**checkpoint.tokenizer(["a day"], return_tensors="pt")).past_key_values is None
    assert checkpoint.config.use_cache  # as it will be saved


def test_open_checkpoint_of_nothing_says_what_to_do(tmp_path):
    with pytest.raises(FinetuneError, match="nobody/nothing could not be loaded") as caught:
        open_checkpoint(settings("nobody/nothing"))
    assert "finetune doctor" in caught.value.hint
    with pytest.raises(FinetuneError, match=r"holds no config.json"):
        open_checkpoint(settings(tmp_path))


@pytest.mark.parametrize("family", ["gpt2", "opt", "llama", "qwen3"])
def test_build_model_finds_the_weights_of_a_language_model_for_question_answering(family, checkpoints, tmp_path):
    import transformers

    source = transformers.AutoModelForCausalLM.from_pretrained(checkpoints(family))
    source.save_pretrained(tmp_path)
    transformers.AutoTokenizer.from_pretrained(checkpoints(family)).save_pretrained(tmp_path)
    checkpoint = open_checkpoint(settings(tmp_path))
    model, notes = build_model(checkpoint, settings(tmp_path), all_tasks()["question-answering"], LabelScheme("squad"))
    assert [note.partition("): ")[2] for note in notes] == ["qa_outputs.bias, qa_outputs.weight"]
    assert torch.equal(model.get_input_embeddings().weight, source.get_input_embeddings().weight)
    body = {name.partition(".")[2]: weight for name, weight in source.state_dict().items() if "layers.1" in name}
    found = {name.partition(".")[2]: weight for name, weight in model.state_dict().items()}
    assert all(torch.equal(found[name], weight) for name, weight in body.items())
    model.save_pretrained(tmp_path / "saved")
    _, report = transformers.AutoModelForQuestionAnswering.from_pretrained(tmp_path / "saved", output_loading_info=True)
    assert not report["missing_keys"]


def test_build_model_refuses_pickled_weights(checkpoints, tmp_path):
    folder = tmp_path / "pickled"
    shutil.copytree(checkpoints("bert"), folder)
    (folder / "model.safetensors").unlink()
    torch.save({}, folder / "pytorch_model.bin")
    wanted = settings(folder)
    with pytest.raises(FinetuneError, match="could not be loaded") as caught:
        build_model(open_checkpoint(wanted), wanted, TASK, LABELS)
    assert "safetensors" in caught.value.hint


def test_build_model_refuses_a_family_without_a_head(checkpoints, tmp_path):
    folder = tmp_path / "vision"
    shutil.copytree(checkpoints("bert"), folder)
    (folder / "config.json").write_text(json.dumps({"model_type": "vit", "hidden_size": 32}))
    wanted = settings(folder)
    with pytest.raises(FinetuneError, match="vit model, which has no head for text-classification"):
        build_model(open_checkpoint(wanted), wanted, TASK, LABELS)


def test_max_length_beyond_the_positions_is_an_error(checkpoints):
    checkpoint = open_checkpoint(settings(checkpoints("bert")))
    assert checkpoint.max_length(None) == 64
    assert checkpoint.max_length(20) == 20
    with pytest.raises(FinetuneError, match="65 is more than the 64 positions"):
        checkpoint.max_length(65)


@pytest.mark.parametrize("family", FAMILIES)
def test_shrink_config_makes_any_family_tiny(family, checkpoints):
    import transformers

    full = type(open_checkpoint(settings(checkpoints(family))).config)()
    shrink_config(full)
    full.pad_token_id = 0
    model = transformers.AutoModelForSequenceClassification.from_config(full)
    body = sum(p.numel() for p in model.parameters()) - model.get_input_embeddings().weight.numel()
    assert body < 300_000
