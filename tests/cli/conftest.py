from pathlib import Path

import pytest

from finetune.cli.app import main


@pytest.fixture
def on_stored_runs(monkeypatch, capsys):
    """Return a function that runs a command beside the stored runs, 100 columns wide: (exit code, stdout, stderr)."""
    monkeypatch.chdir(Path(__file__).parent.parent)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("NO_COLOR", "1")

    def run(*arguments):
        code = main([*arguments, "--output-dir", "stored_runs"])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture
def transcript(on_stored_runs):
    """Return a function that gives all of a command's answer as one text, for golden files."""

    def run(*arguments):
        code, out, err = on_stored_runs(*arguments)
        return f"$ finetune {' '.join(arguments)}\n--- stdout\n{out}--- stderr\n{err}--- exit code {code}\n"

    return run
