"""The process that tries a recipe: its answers, its ends, and what it leaves behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from finetune.errors import FinetuneError
from finetune.estimate.ask import ask

FAKE = "tests.estimate.fake_probe"


def test_ask_returns_what_was_found_and_measured_and_removes_the_folder(recipe):
    answer = ask(recipe, True, "ok", module=FAKE)
    assert answer.measured == {"steps": 3}
    assert answer.note is None
    assert not Path(answer.found["folder"]).exists()


def test_ask_without_measuring(recipe):
    answer = ask(recipe, False, "ok", module=FAKE)
    assert answer.measured is None
    assert "folder" in answer.found


def test_ask_ends_a_probe_that_takes_too_long_and_says_so(recipe):
    answer = ask(recipe, True, "slow", limit_s=0.2, module=FAKE)
    assert answer.measured is None
    assert answer.note == "the probe was not done within 0.2 s, as steps take long: it had taken no step"
    assert not Path(answer.found["folder"]).exists()
    with pytest.raises(ProcessLookupError):
        os.kill(answer.found["pid"], 0)


def test_ask_takes_what_was_measured_before_the_time_was_over(recipe):
    answer = ask(recipe, True, "slow and measured", limit_s=0.3, module=FAKE)
    assert answer.measured == {"steps": 1}
    assert "what it had measured by then counts" in answer.note


def test_ask_passes_on_what_the_user_can_mend(recipe):
    with pytest.raises(FinetuneError) as caught:
        ask(recipe, True, "error", module=FAKE)
    assert (caught.value.message, caught.value.hint) == ("dataset.path: nothing is there", "Look again.")


def test_ask_tells_a_killed_probe_from_one_that_failed(recipe):
    with pytest.raises(FinetuneError, match="memory was too small"):
        ask(recipe, True, "killed", module=FAKE)
    with pytest.raises(FinetuneError, match="RuntimeError: the library is broken") as caught:
        ask(recipe, True, "crash", module=FAKE)
    assert "--no-probe" in caught.value.hint


def test_ask_leaves_nothing_behind_when_it_is_ended_itself(tmp_path):
    code = (
        "from finetune.estimate.ask import ask\n"
        "from finetune.recipe.load import load_recipe\n"
        f"ask(load_recipe('quickstart').recipe, True, 'slow', module={FAKE!r})\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "TMPDIR": str(tmp_path)})
    while not list(tmp_path.glob("*/found.json")):
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert process.wait() == 128 + signal.SIGTERM
    assert list(tmp_path.iterdir()) == []
