"""The room on the disk: asked for before the first step, and what a full disk does to a run that is under way."""

import gc
import json
import os
import shutil
import subprocess
from collections import namedtuple
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune.errors import FinetuneError
from finetune.recipe.schema import Training
from finetune.training import checkpoints, disk
from finetune.training.disk import DiskEstimate, checkpoints_at_once, free_bytes, require_room
from finetune.training.plan import make_plan
from tests.training.conftest import outcome, read_run

# dropout on; a log line a step, an evaluation and a checkpoint every few: every kind of file is written again and again
TRAINING = {
    "num_train_epochs": 2, "learning_rate": 2e-3, "eval_strategy": "steps", "eval_steps": 4,
    "save_strategy": "steps", "save_steps": 2,
}  # fmt: skip
Usage = namedtuple("Usage", "total used free")


def estimate(tmp_path, free, **changes):
    sizes = {"checkpoints": 3, "checkpoint_bytes": 300, "best_bytes": 100, "model_bytes": 100, "present_bytes": 0}
    return DiskEstimate(place=tmp_path, free_bytes=free, **{**sizes, **changes})


def test_disk_needs_all_that_lies_there_at_the_same_time(tmp_path):
    assert estimate(tmp_path, 0).needed_bytes == 1100
    assert estimate(tmp_path, 0, present_bytes=700).needed_bytes == 400  # what an earlier life wrote is replaced
    assert estimate(tmp_path, 0, present_bytes=7000).needed_bytes == 0


def test_disk_refuses_a_run_that_does_not_fit(tmp_path):
    require_room(estimate(tmp_path, 1100), Training())
    require_room(estimate(tmp_path, None), Training())  # what cannot be known is no reason to refuse
    with pytest.raises(FinetuneError) as caught:
        require_room(estimate(tmp_path, 1099), Training())
    assert "needs about 1.1 kB (3 checkpoints of 300 bytes, the best weights 100 bytes, the model 100 bytes)" in str(
        caught.value.message
    )
    assert f"1.1 kB are free in {tmp_path}" in caught.value.message
    for change in ("finetune clean", "training.save_total_limit=1", "training.save_strategy=no", "output_dir"):
        assert change in caught.value.hint
    with pytest.raises(FinetuneError) as caught:
        require_room(estimate(tmp_path, 99, checkpoints=0, best_bytes=0), Training(save_strategy="no"))
    assert "save_" not in caught.value.hint


@given(steps=st.integers(1, 60), every=st.integers(1, 20), keep=st.none() | st.integers(1, 5))
def test_disk_counts_checkpoints_as_the_run_writes_and_drops_them(steps, every, keep):
    training = Training(
        max_steps=steps, save_strategy="steps", save_steps=every, save_total_limit=keep, load_best_model_at_end=False
    )
    plan = make_plan(training, rows=640)
    lying, most = 0, 0
    for step in range(1, steps + 1):
        if plan.saves_at(step):
            lying += 1
            most = max(most, lying)
            lying = min(lying, keep or lying)
    assert checkpoints_at_once(plan, keep) == most


def test_disk_free_is_asked_of_the_folder_that_exists(tmp_path, monkeypatch):
    asked = []

    def usage(path):
        asked.append(path)
        return Usage(100, 60, 40)

    monkeypatch.setattr(shutil, "disk_usage", usage)
    assert free_bytes(tmp_path / "runs" / "to be made") == 40
    assert asked == [tmp_path]


@pytest.mark.parametrize("answer", [OSError(5, "Input/output error"), Usage(0, 0, 0)])
def test_disk_that_cannot_be_asked_is_unknown(answer, tmp_path, monkeypatch):
    def usage(path):
        if isinstance(answer, OSError):
            raise answer
        return answer

    monkeypatch.setattr(shutil, "disk_usage", usage)
    assert free_bytes(tmp_path) is None


def test_disk_estimate_is_what_a_run_writes(toy_recipe, finetune, only_run):
    code, _, err = finetune("run", toy_recipe(training={**TRAINING, "save_total_limit": 1}))
    assert code == 0, err
    newest = max((only_run() / "checkpoints").glob("step-*"))
    weights = sum(path.stat().st_size for path in (only_run() / "model").glob("*.safetensors"))
    whole = sum(path.stat().st_size for path in newest.iterdir())
    code, out, err = finetune("run", toy_recipe(training={**TRAINING, "save_total_limit": 1}), "--dry-run", "--json")
    assert code == 0, err
    needed = json.loads(out)["disk"]["needed_bytes"]
    # Names, random state and the frame of each file are not counted; in so small a model they are a fifth.
    assert 0.75 < needed / (2 * whole + 2 * weights) < 1


def test_disk_too_small_stops_a_run_before_its_first_step(toy_recipe, finetune, only_run, monkeypatch):
    monkeypatch.setattr(disk, "free_bytes", lambda directory: 1000)
    recipe = toy_recipe(training=TRAINING)
    code, out, err = finetune("run", recipe, "--dry-run")
    assert code == 1
    assert "the disk is too small for this run" in err
    code, out, err = finetune("run", recipe)
    assert code == 1
    assert "1.0 kB are free" in err
    assert "training.save_total_limit=1" in err
    record = read_run(only_run())
    assert record["status"] == "failed"
    assert "the disk is too small" in record["status_reason"]
    assert not (only_run() / "log.jsonl").exists()
    assert not (only_run() / "checkpoints").exists()
    monkeypatch.setattr(disk, "free_bytes", lambda directory: None)
    code, out, err = finetune("run", recipe, "--dry-run")
    assert code == 0, err
    assert "unknown free" in out


def refuse_writing(monkeypatch, name):
    """Let the disk be full for one file of the run; return the list of attempts."""
    from finetune.runs import files

    replace, attempts = os.replace, []

    def full(source, target):
        if str(target).endswith(name):
            attempts.append(target)
            raise OSError(28, "No space left on device", str(target))
        replace(source, target)

    monkeypatch.setattr(files, "os", SimpleNamespace(**{**vars(os), "replace": full}))
    return attempts


def test_record_that_cannot_be_written_on_the_way_is_no_reason_to_stop(toy_recipe, finetune, only_run, monkeypatch):
    from finetune.training import session

    write, refused = session.write_run, []

    def full(run, directory):
        if run.timeline and not run.is_finished:
            refused.append(run)
            raise OSError(28, "No space left on device", str(directory / "run.json"))
        write(run, directory)

    monkeypatch.setattr(session, "write_run", full)
    code, _, err = finetune("run", toy_recipe())
    assert code == 0, err
    assert len(refused) >= 2
    assert err.count("run.json could not be written: No space left on device; the run goes on") == 1
    assert read_run(only_run())["status"] == "completed"
    assert len(read_run(only_run())["timeline"]) == 2


def test_record_that_cannot_be_finished_hides_no_error(toy_recipe, finetune, only_run, monkeypatch):
    from finetune.training import loop, session

    write = session.write_run

    def full(run, directory):
        if run.status == "failed":
            raise OSError(28, "No space left on device", str(directory / "run.json"))
        write(run, directory)

    def blow_up(loss, grad_norm, step, prepared):
        raise FinetuneError("the loss is not a finite number")

    monkeypatch.setattr(session, "write_run", full)
    monkeypatch.setattr(loop, "require_finite", blow_up)
    code, _, err = finetune("run", toy_recipe())
    assert code == 1
    assert "error: the loss is not a finite number" in err
    assert "could not be finished: [Errno 28] No space left on device" in err
    assert "the run goes on" not in err


def test_sign_of_life_that_cannot_be_given_is_no_reason_to_stop(toy_recipe, finetune, only_run, monkeypatch):
    from finetune.training import session

    def full(directory):
        raise OSError(28, "No space left on device", str(directory / "alive.json"))

    monkeypatch.setattr(session, "heartbeat", full)
    monkeypatch.setattr(session, "_HEARTBEAT_SECONDS", -1.0)
    code, _, err = finetune("run", toy_recipe())
    assert code == 0, err
    assert err.count("alive.json could not be written") == 1


@pytest.mark.parametrize("name", ["predictions-test.jsonl", "README.md"])
def test_full_disk_at_the_end_is_one_clear_error_and_the_run_can_go_on(
    name, toy_recipe, finetune, only_run, monkeypatch
):
    recipe = toy_recipe(training=TRAINING)
    attempts = refuse_writing(monkeypatch, name)
    code, _, err = finetune("run", recipe)
    assert code == 1
    assert len(attempts) == 1
    assert "error: the disk is full" in err
    assert "continue with --resume" in err
    assert "Traceback" not in err
    assert read_run(only_run())["status"] == "failed"
    monkeypatch.undo()
    code, _, err = finetune("run", recipe, "--resume")
    assert code == 0, err
    assert read_run(only_run())["status"] == "completed"
    assert (only_run() / "model" / "README.md").is_file()


def test_full_disk_while_saving_the_model_leaves_nothing_of_it(toy_recipe, finetune, only_run, monkeypatch):
    from transformers import BertForSequenceClassification

    def full(self, folder):
        (folder / "model.safetensors").write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(BertForSequenceClassification, "save_pretrained", full)
    code, _, err = finetune("run", toy_recipe(training=TRAINING))
    assert code == 1
    assert "error: the disk is full" in err
    assert not list(only_run().glob("model*"))


def test_full_disk_names_the_checkpoint_that_is_whole(toy_recipe, finetune, only_run, monkeypatch):
    save = checkpoints._save_weights

    def full(model, path):
        if "step-00000006" in str(path):
            path.write_bytes(b"half")
            raise OSError(28, "No space left on device")
        save(model, path)

    monkeypatch.setattr(checkpoints, "_save_weights", full)
    code, _, err = finetune("run", toy_recipe(training=TRAINING))
    assert code == 1
    assert "the checkpoint of step 6 could not be saved (that of step 4 is whole)" in err
    assert sorted(path.name for path in (only_run() / "checkpoints").glob("step*")) == [
        "step-00000002",
        "step-00000004",
    ]


@pytest.fixture
def small_disk(tmp_path):
    """Return a function that makes a file system of so many kB under a folder, or one that is there larger."""
    place = tmp_path / "small"
    place.mkdir()

    def make(kilobytes):
        words = ["remount", f"size={kilobytes}k"] if os.path.ismount(place) else [f"size={kilobytes}k"]
        mount = ["mount", "-t", "tmpfs", "-o", ",".join(words), "tmpfs", str(place)]
        done = subprocess.run(mount, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"a small file system cannot be mounted: {done.stderr.strip()}")
        return place

    if shutil.which("mount") is None:
        pytest.skip("there is no mount command")
    yield make
    while os.path.ismount(place):
        unmount(place)


def unmount(place):
    """Unmount a file system; a run that failed leaves its open files to the garbage collector."""
    gc.collect()
    done = subprocess.run(["umount", str(place)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stderr} open: {open_files(place)}"


def open_files(place):
    """Return which process has which file under a folder open."""
    links = (link for folder in Path("/proc").glob("[0-9]*/fd") for link in entries(folder))
    return [(link.parent.parent.name, target) for link in links if (target := read_link(link)).startswith(str(place))]


def entries(folder):
    try:
        return list(folder.iterdir())
    except OSError:  # the process has ended
        return []


def read_link(link):
    try:
        return os.readlink(link)
    except OSError:  # closed meanwhile
        return ""


@pytest.mark.slow
def test_full_disk_anywhere_loses_nothing(toy_recipe, finetune, small_disk, tmp_path, monkeypatch):
    """A real file system, larger and larger: whatever is written when it is full, the run can go on from there."""
    monkeypatch.setattr(disk, "free_bytes", lambda directory: None)
    recipe = toy_recipe(dropout=0.1, training=TRAINING)
    code, _, err = finetune("run", recipe)
    assert code == 0, err
    [whole] = (tmp_path / "runs").iterdir()
    most = sum(path.stat().st_size for path in whole.rglob("*") if path.is_file()) // 1000
    failed_in = []
    for kilobytes in range(24, 3 * most, most // 8):
        place = small_disk(kilobytes)
        code, _, err = finetune("run", recipe, f"output_dir={place}")
        assert "Traceback" not in err, err
        directory = next(place.iterdir(), None)
        assert finetune("list", "--output-dir", place)[0] == 0
        if code == 0:
            break
        assert code == 1, err
        assert "No space left on device" in err
        failed_in.append(err.splitlines()[-2])
        small_disk(100 * most)
        if directory is not None and (directory / "run.json").exists():
            code, _, err = finetune("run", "--resume", directory)
            assert code == 0, err
            assert outcome(directory) == outcome(whole)
        unmount(place)
    assert code == 0
    assert len(set(failed_in)) >= 4, failed_in


def test_speed_of_a_disk_is_measured_and_leaves_nothing(tmp_path):
    speed = disk.write_speed(tmp_path)
    assert 1e5 < speed < 1e12
    assert list(tmp_path.iterdir()) == []
    assert disk.write_speed(tmp_path / "not there") is None
