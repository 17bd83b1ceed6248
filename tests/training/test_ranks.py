"""Several real processes on one machine: the same training, one run directory, one end."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from finetune.runs.differences import flatten
from tests.training.conftest import read_log, read_run

ROOT = Path(__file__).parents[2]
# 64 rows in steps of 10: the last step of an epoch has 4, of which the two ranks of micro-batches of 5 get 2 each;
# with micro-batches of 1 the ranks of a step of 3 get 2 and 1.
RAGGED = {"per_device_train_batch_size": 10, "learning_rate": 1e-3, "num_train_epochs": 2}
LONG = {"num_train_epochs": 3, "per_device_train_batch_size": 4, "learning_rate": 1e-3, "save_strategy": "steps",
        "save_steps": 3}  # fmt: skip
BY = ("--num-processes", "torchrun")


def command(recipe, *arguments, by="--num-processes", count=2):
    words = ["-m", "finetune", "run", str(recipe), *map(str, arguments)]
    if by == "torchrun":
        return [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={count}", *words]
    return [sys.executable, *words, f"--num-processes={count}"]


def run(recipe, *arguments, by="--num-processes", count=2, **environment):
    """Run a recipe in two processes and return what subprocess.run does."""
    settings = os.environ | {"OMP_NUM_THREADS": "1"} | environment
    words = command(recipe, *arguments, by=by, count=count)
    return subprocess.run(words, env=settings, capture_output=True, text=True, check=False, timeout=600)


@pytest.fixture
def sabotage(tmp_path):
    """Return a function that gives the environment in which a rank does something bad when it loads its n-th rows."""

    def environment(rank: int, loads: int, deed: str) -> dict[str, str]:
        folder = tmp_path / "sabotage"
        folder.mkdir(exist_ok=True)
        (folder / "sitecustomize.py").write_text(f"""
import os
if os.environ.get("RANK") == "{rank}":
    import itertools, signal
    from finetune.errors import FinetuneError
    from finetune.training import loop
    calls, load_batch = itertools.count(1), loop.load_batch
    def sabotaged(*arguments):
        if next(calls) == {loads}:
            {deed}
        return load_batch(*arguments)
    loop.load_batch = sabotaged
""")
        return {"PYTHONPATH": os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])}

    return environment


def only(folder):
    [directory] = folder.iterdir()
    return directory


def weights_of(directory):
    return load_file(directory / "model" / "model.safetensors")


def losses(directory):
    return [line["loss"] for line in read_log(directory) if "loss" in line]


def assert_same_training(one, other):
    """Compare two runs of which only the way of cutting the batches differs."""
    assert len(losses(one)) >= 10
    assert losses(one) == pytest.approx(losses(other), rel=1e-5)
    first, second = weights_of(one), weights_of(other)
    assert max(float((first[name] - second[name]).abs().max()) for name in first) < 1e-5
    mine, theirs = read_run(one), read_run(other)
    assert mine["main_metric"]["name"] == theirs["main_metric"]["name"]
    for part in ("validation", "test"):  # a perplexity moves with the last bits of the weights
        assert flatten(mine["metrics"][part]) == pytest.approx(flatten(theirs["metrics"][part]), rel=1e-6)
    predictions = [(folder / "predictions-test.jsonl").read_text().splitlines() for folder in (one, other)]
    for mine, theirs in zip(*(map(json.loads, lines) for lines in predictions), strict=True):
        assert (mine["row"], mine.get("prediction")) == (theirs["row"], theirs.get("prediction"))


def assert_equal_bit_for_bit(one, other):
    assert read_log(one) == read_log(other)
    first, second = weights_of(one), weights_of(other)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert read_run(one)["metrics"] == read_run(other)["metrics"]


def test_two_processes_train_as_one(toy_recipe, finetune, tmp_path):
    recipe = toy_recipe(training=RAGGED)
    done = run(recipe, "training.per_device_train_batch_size=5", f"output_dir={tmp_path / 'two'}", "--json")
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)  # one process alone prints
    assert record["training"]["num_processes"] == record["hardware"]["num_processes"] == 2
    assert record["training"]["num_nodes"] == 1
    assert len(record["emissions"]["segments"]) == 1  # one machine has one meter
    assert done.stderr.count("steps: 14 of 10 rows") == 1
    assert "Warning" not in done.stderr
    for name, batch, accumulation in (("one", 10, 1), ("accumulated", 5, 2)):
        settings = (f"per_device_train_batch_size={batch}", f"gradient_accumulation_steps={accumulation}")
        code, _, err = finetune(
            "run", recipe, *(f"training.{word}" for word in settings), "--output-dir", tmp_path / name
        )
        assert code == 0, err
        assert_same_training(only(tmp_path / "two"), only(tmp_path / name))
    assert sorted(path.name for path in only(tmp_path / "two").iterdir()) == sorted(
        path.name for path in only(tmp_path / "one").iterdir()
    )


@pytest.mark.slow
def test_ranks_with_unequal_shares_of_a_ragged_batch(toy_recipe, finetune, tmp_path):
    # 61 rows in steps of 2 × 2 × 1: the last step has one row, so a rank has none, and validation has an odd batch.
    training = {**RAGGED, "per_device_train_batch_size": 4, "num_train_epochs": 1}
    recipe = toy_recipe(training=training, dataset={"max_train_samples": 61, "max_eval_samples": 15})
    two = ("training.per_device_train_batch_size=1", "training.gradient_accumulation_steps=2",
           "training.per_device_eval_batch_size=2")  # fmt: skip
    done = run(recipe, *two, f"output_dir={tmp_path / 'two'}", by="torchrun")
    assert done.returncode == 0, done.stderr
    assert finetune("run", recipe, "--output-dir", tmp_path / "one")[0] == 0
    assert_same_training(only(tmp_path / "two"), only(tmp_path / "one"))


@pytest.mark.slow
def test_ranks_share_a_stream(toy_recipe, finetune, tmp_path):
    recipe = toy_recipe(training=RAGGED, dataset={"streaming": True})
    done = run(recipe, "training.per_device_train_batch_size=5", f"output_dir={tmp_path / 'two'}")
    assert done.returncode == 0, done.stderr
    assert finetune("run", recipe, "--output-dir", tmp_path / "one")[0] == 0
    assert_same_training(only(tmp_path / "two"), only(tmp_path / "one"))


@pytest.mark.slow
@pytest.mark.parametrize("family", ["gpt2", "t5", "bart", "distilbert"])
@pytest.mark.parametrize("freeze", ["none", 1, "backbone"])
def test_unused_and_frozen_parameters_hold_nobody_up(family, freeze, toy_recipe, finetune, tmp_path):
    training = {
        **RAGGED,
        "per_device_train_batch_size": 4,
        "num_train_epochs": 1,
        "gradient_checkpointing": freeze == 1,
    }
    recipe = toy_recipe(family, training=training, model={"freeze": freeze})
    done = run(recipe, "training.per_device_train_batch_size=2", f"output_dir={tmp_path / 'two'}")
    assert done.returncode == 0, done.stderr
    assert finetune("run", recipe, "--output-dir", tmp_path / "one")[0] == 0
    assert_same_training(only(tmp_path / "two"), only(tmp_path / "one"))


@pytest.mark.slow
def test_each_rank_draws_its_own_dropout(toy_recipe, tmp_path):
    recipe = toy_recipe(dropout=0.3, training={**LONG, "num_train_epochs": 1})
    assert run(recipe).returncode == 0
    states = torch.load(next(only(tmp_path / "runs").glob("checkpoints/step-*/random.pt")), weights_only=True)
    assert len(states) == 2
    assert not torch.equal(states[0]["torch"], states[1]["torch"])


@pytest.mark.slow
@pytest.mark.parametrize("by", BY)
def test_smoke_and_early_stopping_are_agreed(by, toy_recipe, tmp_path):
    done = run(toy_recipe(), "--smoke", by=by)
    assert done.returncode == 0, done.stderr
    assert read_run(only(tmp_path / "runs"))["training"]["steps"] == 2
    training = {"num_train_epochs": 20, "early_stopping_patience": 1, "learning_rate": 1e-9}
    done = run(toy_recipe(training=training), f"output_dir={tmp_path / 'stopped'}", by=by)
    assert done.returncode == 0, done.stderr
    assert read_run(only(tmp_path / "stopped"))["status"] == "stopped"


@pytest.fixture(scope="module")
def whole(checkpoints, toy_data, tmp_path_factory):
    """Return a recipe with dropout and the directory of its run on two processes that nothing interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    recipe = {
        "task": "text-classification", "model": {"name_or_path": str(checkpoints("bert", 0.2))},
        "dataset": {"path": str(toy_data)}, "emissions": {"country_iso_code": "BRA"},
        "training": {**LONG, "logging_steps": 1, "mixed_precision": "no"},
    }  # fmt: skip
    path = folder / "toy.yaml"
    path.write_text(json.dumps(recipe))  # JSON is YAML
    done = run(path, "--output-dir", folder / "runs")
    assert done.returncode == 0, done.stderr
    return path, only(folder / "runs")


@pytest.fixture
def runs(tmp_path):
    return tmp_path / "runs"


@pytest.mark.slow
@pytest.mark.parametrize(("by", "code"), [("--num-processes", 143), ("torchrun", 1)])
@pytest.mark.parametrize("rank", [0, 1])
def test_signal_to_one_rank_stops_all_and_resume_is_exact(rank, by, code, whole, sabotage, runs):
    recipe, expected = whole
    stopped = run(recipe, "--output-dir", runs, by=by, **sabotage(rank, 5, "os.kill(os.getpid(), signal.SIGTERM)"))
    assert stopped.returncode == code, stopped.stderr
    directory = only(runs)
    assert read_run(directory)["status"] == "interrupted"
    assert read_run(directory)["status_reason"] == "SIGTERM received"
    assert (directory / "checkpoints" / "step-00000004").is_dir()
    goes_on = f"finetune run --resume {directory}" + (" --num-processes 2" if by == BY[0] else "")
    assert stopped.stderr.count(f"SIGTERM: the state is saved. Continue with: {goes_on}\n") == 1
    resumed = run(recipe, "--resume", "--output-dir", runs, by=by)
    assert resumed.returncode == 0, resumed.stderr
    assert_equal_bit_for_bit(directory, expected)


@pytest.mark.slow
def test_signal_to_the_launcher_reaches_all(whole, runs):
    recipe, expected = whole
    words = command(recipe, "--output-dir", runs)
    launcher = subprocess.Popen(words, stderr=subprocess.PIPE, text=True, start_new_session=True)
    for line in launcher.stderr:
        if line.startswith("steps:"):
            break
    log = None
    while launcher.poll() is None and not log:
        log = [path for path in runs.glob("*/log.jsonl") if path.read_text()]
        time.sleep(0.02)
    launcher.send_signal(signal.SIGINT)
    assert launcher.wait(timeout=120) == 130
    assert run(recipe, "--resume", "--output-dir", runs).returncode == 0
    assert_equal_bit_for_bit(only(runs), expected)


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_killed_group_is_resumed_exactly(rank, whole, sabotage, runs):
    recipe, expected = whole
    killed = run(recipe, "--output-dir", runs, **sabotage(rank, 8, "os.kill(os.getpid(), signal.SIGKILL)"))
    directory = only(runs)
    if rank == 0:
        assert killed.returncode == 137
    else:
        assert killed.returncode == 1
        assert "error: another process of this run ended without a word" in killed.stderr
        assert "process 1 was killed (signal 9)" in killed.stderr
        assert read_run(directory)["status"] == "failed"
    alone = subprocess.run(
        [sys.executable, "-m", "finetune", "run", "--resume", str(directory)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert alone.returncode == 1
    assert "it ran on another number of processes (2 then, 1 now)" in alone.stderr
    resumed = run(directory, "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert_equal_bit_for_bit(directory, expected)


@pytest.mark.slow
@pytest.mark.parametrize("by", BY)
@pytest.mark.parametrize("rank", [0, 1])
def test_error_of_one_rank_ends_all_and_is_told(rank, by, toy_recipe, sabotage, tmp_path):
    failed = run(toy_recipe(), by=by, **sabotage(rank, 3, "raise FinetuneError('no more paper', 'Buy some.')"))
    assert failed.returncode == 1
    whose = "process 1: " if rank else ""
    assert f"error: {whose}no more paper\nhint: Buy some.\n" in failed.stderr
    record = read_run(only(tmp_path / "runs"))
    assert (record["status"], record["status_reason"]) == ("failed", f"{whose}no more paper")


@pytest.mark.slow
def test_bug_in_one_rank_shows_its_traceback(toy_recipe, sabotage):
    failed = run(toy_recipe(), **sabotage(1, 3, "raise KeyError('nothing here')"))
    assert failed.returncode == 1
    assert "error: process 1: KeyError: 'nothing here'" in failed.stderr
    assert "process 1 ended with 70" in failed.stderr
    assert failed.stderr.count("Traceback (most recent call last)") >= 1


@pytest.mark.slow
@pytest.mark.parametrize("by", BY)
def test_mistakes_are_told_once(by, toy_recipe, tmp_path):
    failed = run(tmp_path / "nowhere.yaml", by=by)
    assert failed.returncode == 1
    assert failed.stderr.count("error: ") == 1
    failed = run(toy_recipe(dataset={"columns": {"text": "no_such_column"}}), by=by)
    assert failed.returncode == 1
    assert failed.stderr.count("no_such_column") == 1


@pytest.mark.slow
@pytest.mark.parametrize("by", BY)
def test_ranks_stop_together_within_a_budget(by, toy_recipe, tmp_path):
    folder = tmp_path / "metered"
    folder.mkdir()
    # The meter of the machine is rank 0's: 3 J for each batch that it trains on, and 1 J that it evaluates.
    (folder / "sitecustomize.py").write_text("""
import os
if "RANK" in os.environ:
    import itertools
    from finetune.emissions import opening
    from tests.synthetic import SyntheticSource
    from finetune.evaluation.predict import Predictor
    from finetune.training import loop
    spent, load_batch, outputs = [1.0], loop.load_batch, Predictor.outputs
    def counted_load(*arguments):
        spent[0] += 3.0
        return load_batch(*arguments)
    def counted_outputs(*arguments):
        spent[0] += 1.0
        return outputs(*arguments)
    loop.load_batch, Predictor.outputs = counted_load, counted_outputs
    opening._codecarbon = lambda *arguments: SyntheticSource({"cpu": 1.0}, lambda: spent[0])
""")
    environment = {
        "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]),
        "FINETUNE_TIMEOUT_S": "60",
    }
    recipe = toy_recipe(training={**RAGGED, "per_device_train_batch_size": 2, "num_train_epochs": 4,
                                  "per_device_eval_batch_size": 2})  # fmt: skip
    options = ("evaluation.baselines=[]", f"output_dir={tmp_path / 'whole'}")
    whole = run(recipe, *options, by=by, **environment)
    assert whole.returncode == 0, whole.stderr
    record = read_run(only(tmp_path / "whole"))
    assert record["training"]["steps"] == 64
    assert [known["at_step"] for known in record["emissions"]["forecasts"]] == [7, 16, 32, 48]
    options = (f"emissions.max_energy_kwh={record['emissions']['energy_kwh'] / 2}", f"output_dir={tmp_path / 'half'}")
    half = run(recipe, *options, by=by, **environment)
    assert half.returncode == 0, half.stderr
    stopped = read_run(only(tmp_path / "half"))
    assert stopped["status"] == "stopped"
    assert stopped["status_reason"].startswith("energy budget of ")
    assert 16 <= stopped["training"]["steps"] <= 32
    assert stopped["timeline"][-1]["step"] == stopped["training"]["steps"]
    assert stopped["emissions"]["energy_kwh"] <= record["emissions"]["energy_kwh"] / 2
    assert stopped["main_metric"]["n"] == 16
