"""finetune.inspection.weights and costs: counts from headers alone, held against the model that is loaded."""

import json
import struct

import pytest

from finetune.errors import FinetuneError
from finetune.inspection.anatomy import Settings, kind_of, stacks_of
from finetune.inspection.costs import lora_parameters, memory_of, operations_of, past_energy
from finetune.inspection.families import find_family
from finetune.inspection.weights import Tensor, read_folder, weights_from
from finetune.recipe.adapter_keys import Peft
from finetune.runs.record import Run
from tests.inspection.test_anatomy import KINDS


def read_all(folder):
    config = json.loads((folder / "config.json").read_text())
    settings = Settings(config, find_family(config["model_type"]))
    kind, _ = kind_of(settings)
    return read_folder(folder), stacks_of(settings, kind), settings, kind


@pytest.mark.parametrize("family", KINDS)
def test_weights_are_counted_as_in_the_loaded_model(family, any_checkpoint):
    import torch
    from transformers import AutoModel

    folder = any_checkpoint(family)
    found, model = read_folder(folder), AutoModel.from_pretrained(folder)
    assert found.parameters == sum(parameter.numel() for parameter in model.parameters())
    tables = [module for module in model.modules() if isinstance(module, torch.nn.Embedding)]
    counted = {
        table.weight.data_ptr(): table.weight.numel()
        for table in tables
        if table.num_embeddings > 32 or table.embedding_dim > 8  # T5's biases by distance are no embeddings
    }
    assert found.embedding_parameters == sum(counted.values())
    assert found.dtypes == ("F32",)
    assert found.size_bytes == (folder / "model.safetensors").stat().st_size


@pytest.mark.parametrize("family", ["bert", "gpt2", "distilbert", "opt"])
def test_lora_parameters_are_those_that_peft_adds(family, any_checkpoint):
    from transformers import AutoModel

    from finetune.models.adapters import add_adapters

    model = AutoModel.from_pretrained(any_checkpoint(family))
    add_adapters(model, Peft(method="lora", r=8, lora_alpha=16, lora_dropout=0.0, target_modules="all-linear"), [])
    added = sum(p.numel() for name, p in model.named_parameters() if "lora_" in name)
    assert lora_parameters(read_folder(any_checkpoint(family))) == added


def test_memory_counts_sixteen_bytes_a_trained_parameter(any_checkpoint):
    weights, stacks, _, _ = read_all(any_checkpoint("bert"))
    memory = memory_of(weights, stacks)
    activations = memory["full"]["activations_estimate_bytes"]
    assert memory["full"]["total_bytes"] == 16 * weights.parameters + activations
    # 2 layers × 16 rows × 128 tokens × 32 wide × (34 + 5 × 2 × 128 / 32) × 2, by hand
    assert activations == 2 * 16 * 128 * 32 * 74 * 2
    assert memory["full"]["total_bytes"] > memory["lora"]["total_bytes"] > memory["frozen_backbone"]["total_bytes"]


def test_operations_by_hand(any_checkpoint):
    weights, stacks, settings, kind = read_all(any_checkpoint("gpt2"))
    # 2 layers: attention 4 × 32², feed-forward 8 × 32², biases, two norms; a last norm; 4 × 128 × 32 to attend.
    parameters = 2 * (12 * 32 * 32 + 9 * 32 + 4 * 32) + 2 * 32
    forward = 2 * parameters + 2 * 4 * 128 * 32
    found = operations_of(weights, stacks, settings, kind)
    assert found["forward"] == {"decoder": forward}
    assert (found["train_full"], found["train_lora"]) == ({"decoder": 3 * forward}, {"decoder": 2 * forward})


def test_operations_of_an_encoder_decoder_model_are_those_of_each_half(any_checkpoint):
    weights, stacks, settings, kind = read_all(any_checkpoint("bart"))
    found = operations_of(weights, stacks, settings, kind)["forward"]
    assert found["decoder"] > found["encoder"] > 0  # it has the attention to the source beside its own


def test_operations_are_not_told_where_layers_share_weights(any_checkpoint):
    weights, stacks, _, kind = read_all(any_checkpoint("bert"))
    albert = Settings({"model_type": "albert"}, find_family("albert"))
    assert operations_of(weights, stacks, albert, kind) is None


def test_weights_leave_out_what_is_no_parameter():
    tensors = [
        Tensor("h.0.attn.bias", "F32", (1, 1, 64, 64)), Tensor("embeddings.position_ids", "I64", (1, 64)),
        Tensor("rotary_emb.inv_freq", "F32", (16,)), Tensor("h.0.attn.c_attn.bias", "F32", (96,)),
    ]  # fmt: skip
    assert weights_from(tensors, 0).parameters == 96


def test_weights_of_several_files_are_read_by_their_index(any_checkpoint, tmp_path):
    from transformers import AutoModel

    model = AutoModel.from_pretrained(any_checkpoint("bert"))
    model.save_pretrained(tmp_path, max_shard_size="30kB")
    assert (tmp_path / "model.safetensors.index.json").is_file()
    assert read_folder(tmp_path).parameters == read_folder(any_checkpoint("bert")).parameters
    next(tmp_path.glob("model-00001*")).unlink()
    with pytest.raises(FinetuneError, match="named by the index, but not there"):
        read_folder(tmp_path)


@pytest.mark.parametrize("content", [b"", b"short", struct.pack("<Q", 2**60), struct.pack("<Q", 5) + b"{no}}"])
def test_weights_that_are_damaged_are_an_error(content, tmp_path):
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(FinetuneError, match="damaged"):
        read_folder(tmp_path)


def a_run(run_id="a", kwh=2e-6, **emissions):
    return Run(
        run_id, "x", "completed", model={"name_or_path": "m"},
        training={"train_tokens_per_second": 10.0, "train_runtime_s": 2.0},
        emissions={"complete": True, "shared_with": [], "nodes": [{"hostname": "here"}]}
        | {"phases": {"train": {"energy_kwh": kwh}}}
        | emissions,
    )  # fmt: skip


def test_past_energy_is_the_energy_of_training_over_its_tokens():
    [found] = past_energy([a_run(), a_run("b", 4e-6), a_run("c", 6e-6)], ["m"], "here").values()
    assert found["median"] == pytest.approx(4e-6 * 3.6e6 / 20)
    assert (found["low"], found["high"]) == (pytest.approx(0.36), pytest.approx(1.08))
    assert found["run_ids"] == ["a", "b", "c"]


@pytest.mark.parametrize(
    "emissions",
    [
        {"complete": False},
        {"shared_with": ["z"]},
        {"shared_with": None},
        {"nodes": [{"hostname": "there"}]},
        {"phases": {}},
    ],
)
def test_past_energy_is_none_where_it_was_not_measured_here_whole_and_alone(emissions):
    assert past_energy([a_run(**emissions)], ["m"], "here") is None
    assert past_energy([a_run()], ["another"], "here") is None
