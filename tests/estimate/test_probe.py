"""The probe on tiny checkpoints: what it counts must be what a run does."""

import json

import pytest

from finetune.errors import FinetuneError
from finetune.estimate import probe
from finetune.estimate.ask import FOUND, MEASURED
from finetune.estimate.planned import heaviest_step
from finetune.recipe.load import load_recipe
from finetune.training.batches import train_batches
from finetune.training.prepare import prepare
from tests.synthetic import SyntheticSource


@pytest.fixture
def tried(toy_recipe, tmp_path, monkeypatch):
    """Return a function that tries a recipe for the toy task with 40 W all the time: (found, measured)."""
    monkeypatch.setattr(probe, "SHORTEST_BLOCK_S", 0.05)
    monkeypatch.setattr(probe, "WARM_UP_S", 0.0)
    monkeypatch.setattr(probe, "TRAIN_BLOCKS", 2)
    monkeypatch.setattr(
        "finetune.emissions.opening._codecarbon", lambda *arguments: SyntheticSource({"cpu": 30.0, "ram": 10.0})
    )

    def call(measure=True, **sections):
        folder = tmp_path / "probe"
        folder.mkdir()
        probe.try_out(load_recipe(toy_recipe(**sections)).recipe, folder, measure, None, None)
        measured = folder / MEASURED
        return json.loads((folder / FOUND).read_text()), json.loads(measured.read_text()) if measure else None

    return call


def real_tokens(path):
    """Return the padded tokens of all steps of a recipe, step by step."""
    from contextlib import nullcontext

    prepared = prepare(load_recipe(path).recipe, lambda name: nullcontext(), path.parent)
    return [tokens[1] for *_, tokens in train_batches(prepared, 0)], prepared


def test_the_work_that_is_counted_is_that_of_the_steps(tried, toy_recipe):
    found, measured = tried(training={"gradient_accumulation_steps": 2, "num_train_epochs": 3})
    by_step, prepared = real_tokens(toy_recipe(training={"gradient_accumulation_steps": 2, "num_train_epochs": 3}))
    work = found["work"]["phases"]
    assert work["train"]["train"] == pytest.approx(sum(by_step))
    tokens = {name: sum(split["length"]) for name, split in prepared.encoded.splits.items()}
    assert work["evaluate"]["evaluate"] == 4 * tokens["validation"] + tokens["test"]  # three on the way, one at the end
    assert work["baseline"]["evaluate"] == tokens["test"]
    assert work["other"]["evaluate"] == 3 * tokens["test"]
    assert found["work"]["is_exact"]
    assert found["training"]["total_steps"] == len(by_step)
    assert measured["steps"] > 0


def test_the_probe_warms_up_with_the_longest_row(toy_recipe):
    _, prepared = real_tokens(toy_recipe())
    step = heaviest_step(prepared)
    lengths = prepared.encoded.splits["train"]["length"]
    batches = {number: rows for number, _, rows, _ in train_batches(prepared, 0)}
    assert max(lengths[int(row)] for row in batches[step]) == max(lengths)


def test_blocks_hold_the_energy_of_the_time_they_took(tried):
    _, measured = tried()
    for kind in ("train", "evaluate", "save"):
        for block in measured["blocks"][kind]:
            assert block["units"] > 0
            assert block["joules"] == pytest.approx(40 * block["seconds"], rel=0.2, abs=0.2)
    assert measured["emissions"]["phases"]["train"]["energy_kwh"] > 0
    assert measured["peak_ram_bytes"] > 50e6


def test_counting_takes_no_step(tried):
    found, measured = tried(measure=False)
    assert measured is None
    assert set(found["emissions"]["phases"]) <= {"load", "preprocess", "other"}
    assert found["work"]["size"]["computed"] < found["model"]["parameters"]
    assert found["work"]["size"]["is_full"]


@pytest.mark.parametrize("freeze", ["backbone", 1])
def test_a_frozen_part_is_measured_apart(tried, freeze):
    found, measured = tried(model={"freeze": freeze})
    work = found["work"]["phases"]
    assert measured["blocks"]["record"]
    assert work["train"]["record"] > 0
    assert work["evaluate"]["record"] < work["evaluate"]["evaluate"]
    assert measured["blocks"]["train"][0]["units"] > 0


def test_adapters_are_tried_too(tried):
    found, measured = tried(peft={"method": "lora", "target_modules": "all-linear"})
    assert not found["work"]["size"]["is_full"]
    assert found["work"]["size"]["trained"] < found["work"]["size"]["computed"]
    assert measured["blocks"]["train"]


def test_gradual_unfreezing_is_measured_with_every_layer_learning(tried):
    found, measured = tried(training={"gradual_unfreezing": 0.5})
    assert measured["steps"] > 0
    assert found["model"]["trainable_parameters"] == found["model"]["parameters"]


def test_a_stream_is_counted_from_its_first_rows(tried, toy_data):
    found, measured = tried(
        dataset={"path": None, "streaming": True, "data_files": {
            name: str(toy_data / f"{name}.jsonl") for name in ("train", "validation", "test")
        }},
        training={"max_steps": 12},
    )  # fmt: skip
    assert not found["work"]["is_exact"]
    assert found["work"]["phases"]["train"]["train"] > 12 * 8 * 5
    assert measured["blocks"]["train"]


def test_memory_that_is_too_small_is_told_as_in_a_run(tried, monkeypatch):
    def fails(*arguments):
        raise RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(probe, "optimizer_steps", fails)
    with pytest.raises(FinetuneError, match="out of memory") as caught:
        tried()
    assert "per_device_train_batch_size=4" in caught.value.hint
