from pathlib import Path

import pytest

GOOD = """\
task: text-classification
model:
  name_or_path: distilbert/distilbert-base-uncased
dataset:
  path: nyu-mll/glue
  name: sst2
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a data file and a checkpoint folder, and no FINETUNE_ variables."""
    for name in ("FINETUNE_COUNTRY", "FINETUNE_REGION", "FINETUNE_OUTPUT_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train.csv").write_text("text,label\nfine,yes\n", encoding="utf-8")
    (tmp_path / "data" / "test.csv").write_text("text,label\nbad,no\n", encoding="utf-8")
    (tmp_path / "models" / "tiny").mkdir(parents=True)
    (tmp_path / "models" / "tiny" / "config.json").write_text("{}", encoding="utf-8")
    (tmp_path / "models" / "empty").mkdir()
    return tmp_path


@pytest.fixture
def write(folder: Path):
    """Write recipe.yaml; by default the shortest good recipe, with more lines below it."""

    def write_recipe(more: str = "", base: str = GOOD) -> Path:
        path = folder / "recipe.yaml"
        path.write_text(base + more, encoding="utf-8")
        return path

    return write_recipe
