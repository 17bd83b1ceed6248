"""Interrupt and resume: bit for bit the uninterrupted run, whenever the signal comes."""

import json
import shutil
import signal

import pytest
from safetensors.torch import load_file

from tests.marks import slowly
from tests.training.conftest import outcome, read_run

# Dropout on, accumulation 3 of 4 rows over 64 rows: 6 steps an epoch, the last of them ragged.
TRAINING = {
    "num_train_epochs": 2,
    "per_device_train_batch_size": 4,
    "gradient_accumulation_steps": 3,
    "learning_rate": 1e-3,
    "save_strategy": "steps",
    "save_steps": 4,
    "logging_steps": 1,
}


def newest_weights(checkpoints):
    return max(checkpoints.glob("step-*")) / "model.safetensors"


def loop_run(recipe):
    from finetune.training.start import Request, start

    return start(Request([str(recipe)]))


@pytest.fixture
def whole(toy_recipe, finetune, tmp_path):
    """Return the outcome of the run that nothing interrupted, and its recipe."""
    recipe = toy_recipe(dropout=0.2, training=TRAINING)
    code, _, err = finetune("run", recipe, f"output_dir={tmp_path / 'whole'}")
    assert code == 0, err
    [directory] = (tmp_path / "whole").iterdir()
    return recipe, outcome(directory)


# A check comes after each micro-batch and before each evaluation batch: 5 is in the second step's accumulation window,
# 16 ends an epoch, 17 lies in the evaluation after it, 29 in the second epoch, 33 in its ragged last batch.
@pytest.mark.parametrize("checks", [1, 17, 33, *slowly([5, 16, 18, 29])])
def test_resumed_run_equals_the_uninterrupted_one(checks, whole, finetune, only_run, interrupt_after, monkeypatch):
    recipe, expected = whole
    interrupt_after(checks)
    code, _, err = finetune("run", recipe)
    assert code == 143
    assert "finetune run --resume" in err
    assert read_run(only_run())["status"] == "interrupted"
    monkeypatch.undo()
    code, _, err = finetune("run", recipe, "--resume")
    assert code == 0, err
    assert outcome(only_run()) == expected
    run = read_run(only_run())
    assert run["status"] == "completed"
    assert len(run["emissions"]["segments"]) == 2


def test_run_interrupted_twice_equals_the_uninterrupted_one(whole, finetune, only_run, interrupt_after, monkeypatch):
    recipe, expected = whole
    interrupt_after(5)
    assert finetune("run", recipe)[0] == 143
    interrupt_after(6, signal.SIGINT)
    assert finetune("run", recipe, "--resume")[0] == 130
    monkeypatch.undo()
    code, _, err = finetune("run", "--resume", only_run())
    assert code == 0, err
    assert outcome(only_run()) == expected
    assert len(read_run(only_run())["emissions"]["segments"]) == 3


def test_resume_ignores_a_half_written_checkpoint(whole, finetune, only_run, interrupt_after, monkeypatch):
    recipe, expected = whole
    interrupt_after(20)
    finetune("run", recipe)
    checkpoints = only_run() / "checkpoints"
    newest = max(path for path in checkpoints.iterdir() if path.name.startswith("step-"))
    half = checkpoints / "step-00000099.tmp"
    shutil.copytree(newest, half)
    (half / "model.safetensors").write_bytes(b"torn")
    torn = checkpoints / "step-00000098"
    shutil.copytree(newest, torn)
    (torn / "state.json").unlink()
    monkeypatch.undo()
    code, _, err = finetune("run", recipe, "--resume")
    assert code == 0, err
    assert outcome(only_run()) == expected


def test_resume_counts_repeated_work(whole, finetune, only_run, interrupt_after, monkeypatch):
    recipe, expected = whole
    interrupt_after(30)
    finetune("run", recipe)
    directory = only_run()
    # As after kill -9: the newest checkpoint is older than the last step done.
    shutil.rmtree(max((directory / "checkpoints").glob("step-*")))
    monkeypatch.undo()
    code, _, err = finetune("run", recipe, "--resume")
    assert code == 0, err
    assert outcome(directory) == expected
    emissions = read_run(directory)["emissions"]
    assert 0 < emissions["repeated_work_kwh"] < emissions["energy_kwh"]


def test_resume_of_a_changed_recipe_is_refused(whole, finetune, only_run, interrupt_after, monkeypatch):
    recipe, _ = whole
    interrupt_after(5)
    finetune("run", recipe)
    monkeypatch.undo()
    code, _, err = finetune("run", recipe, "--resume", only_run().name, "training.learning_rate=0.5")
    assert code == 1
    assert "it differs in: training.learning_rate" in err
    code, _, err = finetune("run", recipe, "--resume", "training.learning_rate=0.5")
    assert code == 1
    assert "no unfinished run of this recipe" in err


def test_resume_notes_what_changed_without_effect(whole, finetune, only_run, interrupt_after, monkeypatch):
    recipe, _ = whole
    interrupt_after(7)
    finetune("run", recipe)
    monkeypatch.undo()
    code, _, err = finetune("run", recipe, "--resume", "tags=[again]", "emissions.pue=1.2")
    assert code == 0, err
    assert "note: changed since the run began, without effect on the training: emissions.pue, tags" in err


def test_resume_on_changed_data_is_refused(toy_recipe, toy_data, tmp_path, finetune, interrupt_after, monkeypatch):
    folder = tmp_path / "data"
    shutil.copytree(toy_data, folder)
    recipe = toy_recipe(dataset={"path": str(folder)}, training=TRAINING)
    interrupt_after(20)
    finetune("run", recipe)
    monkeypatch.undo()
    with (folder / "train.jsonl").open("a") as rows:
        rows.write(json.dumps({"text": "one more splendid row", "label": "good"}) + "\n")
    code, _, err = finetune("run", recipe, "--resume")
    assert code == 1
    assert "the data has changed since" in err


def test_resume_of_a_finished_run_is_refused(whole, finetune, tmp_path):
    recipe, _ = whole
    [directory] = (tmp_path / "whole").iterdir()
    code, _, err = finetune("run", recipe, "--resume", directory)
    assert code == 1
    assert "is completed: there is nothing to resume" in err


def test_interrupt_before_the_first_step_starts_over(whole, finetune, only_run, monkeypatch):
    from finetune.training import loop
    from finetune.training.interrupts import Interrupted

    recipe, expected = whole

    def interrupted(*arguments):
        raise Interrupted(signal.SIGINT)

    monkeypatch.setattr(loop, "baseline_scores", interrupted)
    assert finetune("run", recipe)[0] == 130
    monkeypatch.undo()
    code, _, err = finetune("run", recipe, "--resume")
    assert code == 0, err
    assert "starts over" in err
    assert outcome(only_run()) == expected


def test_resume_passes_over_a_damaged_checkpoint(whole, finetune, only_run, interrupt_after, monkeypatch):
    recipe, expected = whole
    interrupt_after(30)
    finetune("run", recipe)
    newest = max((only_run() / "checkpoints").glob("step-*"))
    content = bytearray((newest / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (newest / "model.safetensors").write_bytes(content)
    monkeypatch.undo()
    code, _, err = finetune("run", recipe, "--resume")
    assert code == 0, err
    assert f"note: checkpoint {newest.name} is damaged: model.safetensors is not as it was written" in err
    assert outcome(only_run()) == expected


def test_resume_without_a_whole_checkpoint_is_one_clear_error(whole, finetune, only_run, interrupt_after, monkeypatch):
    recipe, expected = whole
    interrupt_after(20)
    finetune("run", recipe)
    for checkpoint in (only_run() / "checkpoints").glob("step-*"):
        (checkpoint / "optimizer.pt").unlink()
    monkeypatch.undo()
    code, _, err = finetune("run", recipe, "--resume")
    assert code == 1
    assert "has no checkpoint to continue from" in err
    assert "optimizer.pt is missing" in err
    shutil.rmtree(only_run() / "checkpoints")  # as the hint says
    code, _, err = finetune("run", recipe, "--resume")
    assert code == 0, err
    assert outcome(only_run()) == expected


def test_resume_goes_on_with_the_best_of_its_checkpoint(toy_recipe, finetune, only_run, interrupt_after, monkeypatch):
    """Killed after a new best and before the next checkpoint, on a GPU where the same step scores lower next time."""
    from finetune.training import loop

    training = {**TRAINING, "eval_strategy": "steps", "eval_steps": 3, "load_best_model_at_end": True}
    recipe = toy_recipe(training=training)
    scores = iter([0.6, 0.9])
    real = loop.validation_scores

    def scored(prepared, session):
        value = next(scores, 0.5)
        return {name: {**entry, "value": value} for name, entry in real(prepared, session).items()}

    monkeypatch.setattr(loop, "validation_scores", scored)

    save = loop.save

    def killed(prepared, progress, session, border):
        if progress.step == 8:
            raise KeyboardInterrupt  # no checkpoint: as kill -9 after the evaluation of step 6
        save(prepared, progress, session, border)

    monkeypatch.setattr(loop, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        loop_run(recipe)
    best = only_run() / "checkpoints"
    assert sorted(path.name for path in best.glob("best*")) == ["best-00000003", "best-00000006"]
    monkeypatch.setattr(loop, "save", save)
    code, _, err = finetune("run", recipe, "--resume")
    assert code == 0, err
    assert read_run(only_run())["training"]["best_step"] == 3
    kept = load_file(best / "best-00000003" / "model.safetensors")
    final = load_file(only_run() / "model" / "model.safetensors")
    # Only the rows of the vocabulary that occur are trained and kept; the saved model has them all.
    assert all((kept[name] == final[name]).all() for name in kept if kept[name].shape == final[name].shape)
    assert not (kept["classifier.weight"] == load_file(newest_weights(best))["classifier.weight"]).all()


def test_full_disk_keeps_the_checkpoint_before(toy_recipe, finetune, only_run, monkeypatch):
    import errno

    from finetune.training import checkpoints

    recipe = toy_recipe(training=TRAINING)
    save, calls = checkpoints._save_weights, []

    def full(model, path):
        calls.append(path)
        if "step-00000008" in str(path):
            raise OSError(errno.ENOSPC, "No space left on device")
        save(model, path)

    monkeypatch.setattr(checkpoints, "_save_weights", full)
    code, _, err = finetune("run", recipe)
    assert code == 1
    assert "checkpoint of step 8 could not be saved" in err
    assert "No space left on device" in err
    assert [path.name for path in (only_run() / "checkpoints").glob("step-*")] == ["step-00000004"]
    monkeypatch.undo()
    code, _, err = finetune("run", recipe, "--resume")
    assert code == 0, err


def test_full_disk_while_keeping_the_best_is_one_clear_error(toy_recipe, finetune, only_run, monkeypatch):
    import errno

    from finetune.training import checkpoints

    def full(model, path):
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(checkpoints, "_save_weights", full)
    code, _, err = finetune(
        "run", toy_recipe(training={**TRAINING, "save_strategy": "no", "load_best_model_at_end": True})
    )
    assert code == 1
    assert "the disk is full" in err
    assert read_run(only_run())["status"] == "failed"


def test_full_disk_as_safetensors_tells_it_is_one_clear_error(toy_recipe, finetune, monkeypatch):
    from safetensors import SafetensorError

    from finetune.training import checkpoints

    def full(model, path):
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(checkpoints, "_save_weights", full)
    code, _, err = finetune("run", toy_recipe(training={**TRAINING, "load_best_model_at_end": False}))
    assert code == 1
    assert "checkpoint of step 4 could not be saved" in err
    code, _, err = finetune("run", toy_recipe(training={**TRAINING, "save_strategy": "no"}))
    assert code == 0, err  # without checkpoints, and so without a best one, nothing is saved on the way


def test_resume_of_a_smoke_run_stays_a_smoke_run(toy_recipe, finetune, only_run, interrupt_after, monkeypatch):
    interrupt_after(2)
    code, _, err = finetune("run", toy_recipe(), "--smoke")
    assert code == 143
    tiny = read_run(only_run())["model"]["parameters"]
    monkeypatch.undo()
    code, _, err = finetune("run", "--resume", only_run())
    assert code == 0, err
    assert read_run(only_run())["model"]["parameters"] == tiny


def test_resume_of_a_run_alone_takes_no_settings(whole, finetune, only_run, interrupt_after, monkeypatch):
    recipe, _ = whole
    interrupt_after(5)
    finetune("run", recipe)
    monkeypatch.undo()
    code, _, err = finetune("run", "--resume", only_run(), "training.seed=99")
    assert code == 1
    assert "settings go with a recipe" in err


def test_resume_finds_the_runs_folder_of_the_environment(whole, finetune, only_run, interrupt_after, monkeypatch):
    recipe, expected = whole
    interrupt_after(5)
    finetune("run", recipe)
    monkeypatch.undo()
    monkeypatch.setenv("FINETUNE_OUTPUT_DIR", str(only_run().parent))
    code, _, err = finetune("run", "--resume", only_run().name)
    assert code == 0, err
    assert outcome(only_run()) == expected


def test_resume_with_other_threads_is_refused(whole, finetune, only_run, interrupt_after, monkeypatch):
    import torch

    recipe, _ = whole
    interrupt_after(5)
    finetune("run", recipe)
    monkeypatch.undo()
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    try:
        code, _, err = finetune("run", recipe, "--resume")
    finally:
        torch.set_num_threads(threads)
    assert code == 1
    assert "another number of threads" in err
