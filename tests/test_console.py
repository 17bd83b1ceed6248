"""finetune.console: nobody has to be listening."""

import contextlib
import errno
import os
import signal
import subprocess
import sys

import pytest

from finetune import console
from finetune.cli.app import main
from finetune.console import lasting_streams, say


class Lost:
    """A text stream whose other end is gone."""

    encoding = "utf-8"

    def __init__(self, number, folder):
        self.number, self.writes = number, 0
        self.file = (folder / "descriptor").open("w")

    def write(self, text):
        self.writes += 1
        raise OSError(self.number, os.strerror(self.number))

    def flush(self):
        self.write("")

    def fileno(self):
        return self.file.fileno()

    def isatty(self):
        return False


@pytest.mark.parametrize("number", [errno.EPIPE, errno.EIO, errno.ENOSPC])
def test_notes_are_dropped_when_stderr_is_gone(number, tmp_path, monkeypatch):
    lost = Lost(number, tmp_path)
    monkeypatch.setattr(sys, "stderr", lost)
    with lasting_streams():
        say("a note")
        with console.progress("training", 10) as advance:
            advance(10, "loss 1")
    assert lost.writes
    os.write(lost.fileno(), b"what C code says goes nowhere too")
    assert (tmp_path / "descriptor").read_text() == ""
    assert sys.stderr is lost


def test_notes_go_nowhere_in_a_process_without_stderr(monkeypatch, capsys):
    monkeypatch.setattr(sys, "stderr", None)
    with lasting_streams():
        say("a note")
        assert not console.someone_watches()
    assert capsys.readouterr().out == ""


def test_result_that_nobody_reads_is_no_error(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "stdout", Lost(errno.EPIPE, tmp_path))
    assert main(["recipes"]) == 0


def test_result_that_cannot_be_written_is_an_error(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdout", Lost(errno.ENOSPC, tmp_path))
    assert main(["recipes"]) == 1
    assert "error: stdout: No space left on device" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["list"], ["show", "0f0f0f", "--json"]])
def test_a_reader_that_stops_sees_no_traceback(arguments):
    stored = os.path.join(os.path.dirname(__file__), "stored_runs")
    command = [sys.executable, "-m", "finetune", *arguments, "--output-dir", stored]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process.stdout.close()
    err = process.stderr.read()
    assert process.wait() == 0
    assert "Traceback" not in err
    assert "Exception ignored" not in err
    assert "Broken pipe" not in err


def test_an_error_after_a_swallowed_ctrl_c_is_no_bug(monkeypatch, capsys):
    def swallow_and_fail(*asked):
        with contextlib.suppress(KeyboardInterrupt):  # as numpy does while it is imported
            signal.raise_signal(signal.SIGINT)
        raise ImportError("cannot load module more than once per process")

    before = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr("finetune.recipe.load.load_recipe", swallow_and_fail)
    assert main(["validate", "quickstart"]) == 130
    assert capsys.readouterr().err == ""
    assert signal.getsignal(signal.SIGINT) is before
