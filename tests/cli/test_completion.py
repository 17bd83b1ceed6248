import os
import subprocess
import sys

import pytest

from finetune.recipe.shipped import shipped_recipes


def offered(words, folder):
    """Return what bash would be offered for the last of the words."""
    environment = {**os.environ, "_FINETUNE_COMPLETE": "complete_bash", "COMP_WORDS": " ".join(words)}
    environment["COMP_CWORD"] = str(len(words) - 1)
    done = subprocess.run(
        [sys.executable, "-c", "from finetune.cli.app import build_app; build_app()(prog_name='finetune')"],
        env=environment, cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.stdout.split()


@pytest.fixture
def folder(tmp_path):
    for name in ("quick-20260101T000000Z-1a", "quick-20260102T000000Z-0b", "other-20260101T000000Z-2c"):
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "run.json").write_text("{}")
    (tmp_path / "mine.yaml").write_text("task: fill-mask\n")
    return tmp_path


def test_completion_offers_verbs_recipes_and_runs(folder):
    assert offered(["finetune", "est"], folder) == ["estimate"]
    assert offered(["finetune", "validate", ""], folder) == ["mine.yaml", *shipped_recipes()]
    assert offered(["finetune", "run", "sst"], folder) == ["sst2-distilbert"]
    assert offered(["finetune", "sweep", "quickstart-p"], folder) == ["quickstart-pruning"]
    assert offered(["finetune", "study", "tr"], folder) == ["transfer"]
    runs = ["quick-20260102T000000Z-0b", "quick-20260101T000000Z-1a"]
    assert offered(["finetune", "show", "qu"], folder) == runs
    assert offered(["finetune", "inspect", "qu"], folder) == runs
    assert offered(["finetune", "recipes", "quickstart-"], folder) == ["quickstart-lora", "quickstart-scratch"]
    assert offered(["finetune", "evaluate", "qu"], folder) == runs
    for asks in (["--zero-shot"], ["--few-shot", "4"]):
        assert offered(["finetune", "evaluate", *asks, "mi"], folder) == ["mine.yaml"]
    (folder / "runs").rename(folder / "elsewhere")
    assert offered(["finetune", "show", "--output-dir", "elsewhere", "qu"], folder) == runs
    assert offered(["finetune", "compare", "qu"], folder) == []
