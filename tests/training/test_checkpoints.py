"""finetune.training.checkpoints, integrity, recovery: what a kill or a damaged disk leaves, and what comes of it."""

import json
import os
import shutil
import signal
import sys
import traceback

import pytest

from finetune.errors import FinetuneError
from finetune.training import checkpoints
from finetune.training.checkpoints import (
    Trainable,
    drop_old_checkpoints,
    load_best,
    load_checkpoint,
    save_best,
    save_checkpoint,
    saved_checkpoints,
    whole_best,
)
from finetune.training.random_state import take_random_state
from finetune.training.recovery import clear_leftovers, find_checkpoint


@pytest.fixture
def objects():
    """Return a small model, filled with the step that it is after, and what trains it."""
    import torch

    model = torch.nn.Linear(4, 3)
    optimizer = torch.optim.AdamW(model.parameters())
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
    return Trainable(model, optimizer, schedule)


def weigh(objects, step):
    import torch

    with torch.no_grad():
        objects.model.weight.fill_(float(step))


def save(directory, objects, step, best=None, keep=None):
    """Save what a run would after a step whose best evaluation so far was after step `best`."""
    weigh(objects, step)
    if best == step:
        save_best(directory, step, objects.model)
    state = {"progress": {"step": step, "best_step": best, "loss_total": 0.1 + step, "timeline": [{"é": 1e-300}]}}
    path = save_checkpoint(directory, step, objects, state, [take_random_state()])
    drop_old_checkpoints(directory, keep)
    return path


def names(directory):
    return sorted(path.name for path in (directory / "checkpoints").iterdir())


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_checkpoints_that_are_whole_are_found_with_their_state(tmp_path, objects):
    save(tmp_path, objects, 2)
    newest = save(tmp_path, objects, 4, best=4)
    found = find_checkpoint(tmp_path, needs_best=True)
    assert found.checkpoint == newest
    assert found.notes == ()
    assert found.state == {
        "progress": {"step": 4, "best_step": 4, "loss_total": 4.1, "timeline": [{"é": 1e-300}]},
    }
    weigh(objects, 99)
    load_checkpoint(newest, objects)
    assert objects.model.weight.unique().item() == 4.0


DAMAGES = {
    "truncated weights": (lambda step: os.truncate(step / "model.safetensors", 40), "model.safetensors has 40 bytes"),
    "flipped byte": (lambda step: flip(step / "optimizer.pt"), "optimizer.pt is not as it was written"),
    "missing optimizer": (lambda step: (step / "optimizer.pt").unlink(), "optimizer.pt is missing"),
    "missing state": (lambda step: (step / "state.json").unlink(), "state.json is missing"),
    "torn state": (lambda step: os.truncate(step / "state.json", 20), "state.json is not valid JSON"),
    "changed state": (
        lambda step: (step / "state.json").write_text((step / "state.json").read_text().replace("4.1", "4.2")),
        "state.json is not as it was written",
    ),
    "missing best": (
        lambda step: shutil.rmtree(step.with_name("best-00000004")),
        "the best weights it goes with (step 4): they are not there",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_checkpoints_that_are_damaged_are_passed_over_with_a_note(damage, tmp_path, objects, monkeypatch):
    monkeypatch.setattr(checkpoints, "_linked", lambda existing, new: False)  # damage one file, not two names of it
    first = save(tmp_path, objects, 2, best=2)
    hurt, words = DAMAGES[damage]
    hurt(save(tmp_path, objects, 4, best=4))
    found = find_checkpoint(tmp_path, needs_best=True)
    assert found.checkpoint == first
    assert words in found.notes[0]
    assert "going on from step-00000002" in found.notes[0]
    # What the run will do again must not meet what is left of it.
    clear_leftovers(tmp_path, found.checkpoint)
    assert names(tmp_path) == ["best-00000002", "step-00000002"]
    save(tmp_path, objects, 4, best=4)
    assert find_checkpoint(tmp_path, needs_best=True).notes == ()


def test_checkpoints_that_are_all_damaged_are_one_clear_error(tmp_path, objects):
    for step in (2, 4):
        flip(save(tmp_path, objects, step) / "model.safetensors")
    with pytest.raises(FinetuneError) as caught:
        find_checkpoint(tmp_path, needs_best=False)
    assert "step-00000004 is damaged: model.safetensors" in caught.value.message
    assert "step-00000002 is damaged" in caught.value.message
    assert "Start a new run without --resume" in caught.value.hint


def test_checkpoints_from_before_there_were_seals_still_load(tmp_path, objects):
    checkpoint = save(tmp_path, objects, 4)
    state = json.loads((checkpoint / "state.json").read_text())
    (checkpoint / "state.json").write_text(json.dumps({"progress": state["progress"]}))
    best = tmp_path / "checkpoints" / "best"
    best.mkdir()
    shutil.copy(checkpoint / "model.safetensors", best)
    (best / "state.json").write_text('{"step": 2}')
    assert find_checkpoint(tmp_path, needs_best=True).checkpoint == checkpoint
    load_best(whole_best(tmp_path, 2), objects.model)
    (checkpoint / "random.pt").unlink()
    with pytest.raises(FinetuneError, match=r"random\.pt is missing"):
        find_checkpoint(tmp_path, needs_best=True)


def test_best_weights_stay_while_a_checkpoint_goes_with_them(tmp_path, objects):
    save(tmp_path, objects, 2, best=2, keep=2)
    save(tmp_path, objects, 4, best=4, keep=2)
    weigh(objects, 5)
    save_best(tmp_path, 5, objects.model)
    # A run killed now goes on from step 4, where the best was that of step 4.
    assert names(tmp_path) == ["best-00000002", "best-00000004", "best-00000005", "step-00000002", "step-00000004"]
    load_best(whole_best(tmp_path, 4), objects.model)
    assert objects.model.weight.unique().item() == 4.0
    save(tmp_path, objects, 6, best=5, keep=2)
    assert names(tmp_path) == ["best-00000004", "best-00000005", "step-00000004", "step-00000006"]
    save(tmp_path, objects, 8, best=5, keep=2)
    assert names(tmp_path) == ["best-00000005", "step-00000006", "step-00000008"]


def test_best_weights_of_steps_to_be_done_again_are_not_taken_for_the_best(tmp_path, objects):
    """On a GPU the evaluation that made them may come out otherwise the second time."""
    checkpoint = save(tmp_path, objects, 4, best=2)
    for step in (2, 5):
        weigh(objects, step)
        save_best(tmp_path, step, objects.model)
    save(tmp_path, objects, 4, best=2)
    weigh(objects, 2)
    save_best(tmp_path, 2, objects.model)
    clear_leftovers(tmp_path, checkpoint)
    assert names(tmp_path) == ["best-00000002", "step-00000004"]
    load_best(whole_best(tmp_path, 2), objects.model)
    assert objects.model.weight.unique().item() == 2.0


def test_best_weights_that_are_damaged_are_one_clear_error(tmp_path, objects):
    save_best(tmp_path, 3, objects.model)
    flip(tmp_path / "checkpoints" / "best-00000003" / "model.safetensors")
    with pytest.raises(FinetuneError, match=r"\(step 3\) cannot be loaded: model\.safetensors is not as"):
        load_best(whole_best(tmp_path, 3), objects.model)
    with pytest.raises(FinetuneError, match="they are not there"):
        load_best(whole_best(tmp_path, 2), objects.model)


def test_weights_of_the_best_step_lie_on_the_disk_once(tmp_path, objects, monkeypatch):
    checkpoint = save(tmp_path, objects, 4, best=4)
    best = tmp_path / "checkpoints" / "best-00000004"
    assert (checkpoint / "model.safetensors").samefile(best / "model.safetensors")

    def refuse(existing, new):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "link", refuse)
    checkpoint = save(tmp_path, objects, 6, best=6)
    assert not (checkpoint / "model.safetensors").samefile(tmp_path / "checkpoints/best-00000006/model.safetensors")
    assert find_checkpoint(tmp_path, needs_best=True).checkpoint == checkpoint


def test_leftovers_of_a_run_that_starts_over_all_go(tmp_path, objects):
    save_best(tmp_path, 3, objects.model)
    (tmp_path / "checkpoints" / "step-00000004.tmp").mkdir()
    (tmp_path / "model.tmp").mkdir()
    (tmp_path / ".run.json.abc.tmp").write_text("{")
    (tmp_path / "run.json").write_text("{}")
    clear_leftovers(tmp_path, None)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["checkpoints", "run.json"]


def in_a_process_killed_before_operation(count, folder, work):
    """Run `work` in a forked child that dies before its n-th operation on files; return whether it came to its end."""
    seen = 0

    def hook(event, details):
        nonlocal seen
        if event in ("open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.chmod", "os.link") and any(
            str(part).startswith(str(folder)) for part in details[:2]
        ):
            seen += 1
            if seen == count:
                os.kill(os.getpid(), signal.SIGKILL)

    process = os.fork()
    if process == 0:
        code = 99
        try:
            sys.addaudithook(hook)
            work()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    assert code in (0, -signal.SIGKILL)
    return code == 0


def test_a_kill_before_any_operation_on_files_leaves_a_whole_checkpoint(tmp_path, objects):
    """Every moment of keeping the best, saving and dropping old ones; then the same steps are done again."""
    start = tmp_path / "start"
    save(start, objects, 2, best=2, keep=1)

    def three_steps(directory):
        for step, best in ((4, 2), (6, 6), (8, 6)):
            save(directory, objects, step, best, keep=1)

    three_steps(end := tmp_path / "end")
    expected = {"best-00000006", "step-00000008"}
    assert set(names(end)) == expected
    count, found_steps = 0, set()
    finished = False
    while not finished:
        count += 1
        directory = tmp_path / f"killed-{count}"
        shutil.copytree(start, directory)
        finished = in_a_process_killed_before_operation(count, directory, lambda where=directory: three_steps(where))
        found = find_checkpoint(directory, needs_best=True)
        assert found.notes == ()
        newest = saved_checkpoints(directory)[-1]
        assert found.checkpoint == newest
        found_steps.add(newest.name)
        load_checkpoint(newest, objects)
        assert objects.model.weight.unique().item() == int(newest.name[-1])
        best = found.state["progress"]["best_step"]
        load_best(whole_best(directory, best), objects.model)
        assert objects.model.weight.unique().item() == best
        clear_leftovers(directory, newest)
        assert not [name for name in names(directory) if name.endswith(".tmp")]
        for step, its_best in ((4, 2), (6, 6), (8, 6)):
            if step > int(newest.name[-1]):
                save(directory, objects, step, its_best, keep=1)
        drop_old_checkpoints(directory, 1)
        assert set(names(directory)) == expected
        shutil.rmtree(directory)
    assert count > 60
    assert found_steps == {f"step-0000000{step}" for step in (2, 4, 6, 8)}
