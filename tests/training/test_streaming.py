"""Streamed training rows: read while training, the same after any interruption."""

import json

import numpy
import pytest

from tests import tiny
from tests.marks import slowly
from tests.training.conftest import read_log, read_run
from tests.training.test_resume import TRAINING, outcome

FORMATS = ("jsonl", "csv", "parquet")


@pytest.fixture
def small_windows(monkeypatch):
    """Let 64 rows be several windows."""
    monkeypatch.setattr("finetune.data.stream.WINDOW_ROWS", 20)
    monkeypatch.setattr("finetune.training.prepare.WINDOW_ROWS", 20)


@pytest.fixture
def streamed(toy_recipe, tmp_path, small_windows):
    """Return a function that writes the toy task as files of a format and a recipe that streams them."""

    def write(form="jsonl", dropout=0.0, training=None, **dataset):
        rows = tiny.toy_rows()
        rows[5:5] = [{"text": " ", "label": "good"}]  # a row without text, which is dropped
        for split, part in {"train": rows[:65], "validation": rows[65:81], "test": rows[81:]}.items():
            write_rows(tmp_path / "data" / f"{split}.{form}", part)
        return toy_recipe(
            dropout=dropout,
            dataset={"path": str(tmp_path / "data"), "streaming": True, **dataset},
            training=training or {},
        )

    return write


def write_rows(path, rows):
    import pandas

    path.parent.mkdir(exist_ok=True)
    if path.suffix == ".parquet":
        pandas.DataFrame(rows).to_parquet(path)
    elif path.suffix == ".csv":
        pandas.DataFrame(rows).to_csv(path, index=False)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.mark.parametrize("form", FORMATS)
def test_streamed_run_in_the_order_of_the_file_equals_the_loaded_one(form, streamed, finetune, only_run, tmp_path):
    recipe = streamed(form, training={"num_train_epochs": 2, "train_sampling_strategy": "sequential"})
    code, _, err = finetune("run", recipe)
    assert code == 0, err
    code, _, err = finetune("run", recipe, "dataset.streaming=false", f"output_dir={tmp_path / 'loaded'}")
    assert code == 0, err
    [loaded] = (tmp_path / "loaded").iterdir()
    (log, weights, scores), (expected_log, expected_weights, expected_scores) = outcome(only_run()), outcome(loaded)
    assert (log, scores) == (expected_log, expected_scores)
    # Words that no row holds are known beforehand only without streaming; their decay is then rounded otherwise.
    assert all(numpy.allclose(weights[name], expected_weights[name], rtol=0, atol=1e-6) for name in expected_weights)
    found, expected = read_run(only_run())["dataset"], read_run(loaded)["dataset"]
    assert found == expected
    assert found["dropped_rows"]["train"] == 1


# As in the tests of resume; a window is 24 rows, so these stop in the first, the second, the last, and the next epoch.
@pytest.mark.parametrize("checks", [5, 29, *slowly([1, 12, 16, 33])])
def test_streamed_run_resumes_to_the_row(checks, streamed, finetune, only_run, interrupt_after, monkeypatch, tmp_path):
    recipe = streamed(dropout=0.2, training=TRAINING)
    code, _, err = finetune("run", recipe, f"output_dir={tmp_path / 'whole'}")
    assert code == 0, err
    [whole] = (tmp_path / "whole").iterdir()
    with monkeypatch.context() as armed:
        armed.setattr("finetune.data.stream.WINDOW_ROWS", 20)
        interrupt_after(checks)
        assert finetune("run", recipe)[0] == 143
    monkeypatch.undo()
    monkeypatch.setattr("finetune.data.stream.WINDOW_ROWS", 20)
    monkeypatch.setattr("finetune.training.prepare.WINDOW_ROWS", 20)
    code, _, err = finetune("run", recipe, "--resume")
    assert code == 0, err
    assert outcome(only_run()) == outcome(whole)


def test_streamed_run_reads_no_more_rows_than_its_steps_take(streamed, finetune, only_run, monkeypatch, tmp_path):
    monkeypatch.setattr("finetune.data.json_files.CHUNK_ROWS", 8)
    recipe = streamed(training={"max_steps": 3, "per_device_train_batch_size": 8})
    with (tmp_path / "data" / "train.jsonl").open("a") as file:
        file.write("this is no json\n")
    code, _, err = finetune("run", recipe)
    assert code == 0, err
    assert read_run(only_run())["dataset"]["rows"]["train"] == 24
    code, _, err = finetune("run", recipe, "training.max_steps=null")
    assert code == 1
    assert "train.jsonl:66: not JSON" in err


def test_streamed_data_that_changed_is_not_resumed(streamed, finetune, interrupt_after, monkeypatch, tmp_path):
    recipe = streamed(training=TRAINING)
    interrupt_after(20)
    assert finetune("run", recipe)[0] == 143
    monkeypatch.undo()
    text = (tmp_path / "data" / "train.jsonl").read_text()
    (tmp_path / "data" / "train.jsonl").write_text(text.replace("lovely", "wretched", 1))
    code, _, err = finetune("run", recipe, "--resume")
    assert code == 1
    assert "the data has changed since" in err


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["dataset.max_train_samples=8"], "dataset.max_train_samples"),
        (["dataset.validation_size=0.2"], "dataset.validation_size"),
        (["dataset.splits.validation=null"], "dataset.splits.validation"),
    ],
)
def test_streaming_refuses_what_a_stream_cannot_do(settings, words, streamed, finetune):
    code, _, err = finetune("validate", streamed(), *settings)
    assert code == 1
    assert words in err


def test_streamed_losses_are_those_of_any_cut_of_the_batch(streamed, finetune, only_run, tmp_path):
    recipe = streamed(training={"per_device_train_batch_size": 8})
    logs = []
    for size, accumulation in ((8, 1), (4, 2)):
        folder = tmp_path / f"runs-{size}"
        code, _, err = finetune(
            "run",
            recipe,
            f"training.per_device_train_batch_size={size}",
            f"training.gradient_accumulation_steps={accumulation}",
            f"output_dir={folder}",
        )
        assert code == 0, err
        [directory] = folder.iterdir()
        logs.append([line["loss"] for line in read_log(directory) if "loss" in line])
    assert logs[0] == pytest.approx(logs[1], rel=1e-4)
