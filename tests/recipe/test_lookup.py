"""Paths that cannot be looked at give an error of ours, wherever a recipe or the command line names them."""

import os

import pytest

from finetune.errors import FinetuneError
from finetune.recipe.load import load_recipe
from finetune.recipe.lookup import look_up, near_name, neighbours
from finetune.recipe.shipped import write_new
from finetune.recipe.starter import Start, find_task, write_starter

LONG = "x" * 300


@pytest.fixture
def locked(folder, monkeypatch):
    """A folder that may be neither looked into nor listed; the tests may run as root, who may do everything."""
    place = folder / "locked"
    place.mkdir()
    real = {"stat": os.stat, "listdir": os.listdir}

    def refuse(name):
        def guarded(path=".", *rest, **options):
            text = os.fspath(path) if not isinstance(path, int) else ""
            inside = text.startswith(f"{place}/")
            if inside or (name == "listdir" and text == str(place)):
                raise PermissionError(13, "Permission denied", text)
            return real[name](path, *rest, **options)

        return guarded

    for name in real:
        monkeypatch.setattr(os, name, refuse(name))
    return place


def refused(folder, model="a/b", data="path: c/d"):
    (folder / "recipe.yaml").write_text(
        f"task: text-classification\nmodel: {{name_or_path: {model}}}\ndataset: {{{data}}}\n"
    )
    with pytest.raises(FinetuneError) as caught:
        load_recipe("recipe.yaml")
    return caught.value.message


def test_lookup_tells_files_folders_devices_and_nothing_apart(folder):
    (folder / "broken").symlink_to("gone")
    (folder / "loop").symlink_to("loop")
    kinds = {name: look_up(folder / name).kind for name in ("data", "data/train.csv", "gone", "broken", "loop")}
    assert kinds == {"data": "folder", "data/train.csv": "file", "gone": "none", "broken": "none", "loop": "none"}
    assert look_up(folder / "gone").fault is None
    assert look_up(folder / "broken").fault == "is a link to gone, which does not exist"
    assert look_up(folder / "loop").fault == "is a link that leads back to itself"
    assert look_up(folder / os.devnull).kind == "other"
    assert look_up(folder / LONG).fault == "is longer than the name of a file can be"
    assert neighbours(folder / "gone") is None


def test_lookup_never_suggests_what_was_asked_for():
    assert near_name("train.csv", ["train.csv"]) is None
    assert near_name("train.csv", ["train.csv", "trains.csv"]) == "trains.csv"


@pytest.mark.parametrize("name", ["broken.csv", "loop.csv"])
def test_lookup_links_that_lead_nowhere_are_said_and_not_suggested(folder, name):
    (folder / "broken.csv").symlink_to("gone.csv")
    (folder / "loop.csv").symlink_to("loop.csv")
    message = refused(folder, data=f"path: {name}")
    assert message.startswith(f"recipe.yaml:3: dataset.path: {folder}/{name} is a link")
    assert "did you mean" not in message


@pytest.mark.parametrize(
    "section", [{"model": f"./{LONG}"}, {"data": f"path: ./{LONG}"}, {"data": f"data_files: {{train: {LONG}}}"}]
)
def test_lookup_names_that_are_too_long_are_one_problem_of_a_readable_length(folder, section):
    message = refused(folder, **section)
    assert message.endswith("… is longer than the name of a file can be")
    assert len(message) < 250


def test_lookup_hub_id_that_no_file_could_be_named_is_left_to_the_hub(folder):
    (folder / "recipe.yaml").write_text(
        f"task: text-classification\nmodel: {{name_or_path: {LONG}}}\ndataset: {{path: c/d}}\n"
    )
    assert load_recipe("recipe.yaml").recipe.model.name_or_path == LONG


def test_lookup_inputs_that_may_not_be_read_are_problems(folder, locked):
    assert refused(folder, data="path: locked/train.csv").endswith("train.csv cannot be read (Permission denied)")
    assert refused(folder, data="path: locked").endswith(
        "locked is a folder that cannot be listed; check its permissions"
    )
    assert refused(folder, model="./locked").endswith("locked is a folder that cannot be listed; check its permissions")


def test_lookup_recipe_that_may_not_be_looked_at(folder, locked):
    for reference in ("recipe.yaml", LONG, LONG + ".yaml"):
        with pytest.raises(FinetuneError, match=r"Permission denied|longer than the name"):
            load_recipe(locked / reference if reference == "recipe.yaml" else reference)


def test_lookup_recipe_that_may_not_be_read(write, monkeypatch):
    path = write()

    def denied(self):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(type(path), "read_bytes", denied)
    with pytest.raises(FinetuneError, match=r"recipe\.yaml cannot be read \(Permission denied\)"):
        load_recipe("recipe.yaml")


def test_lookup_new_recipes_are_written_or_refused_with_a_reason(folder, locked):
    for target in (locked / "new.yaml", folder / f"{LONG}.yaml", folder / "data" / "train.csv" / "new.yaml"):
        with pytest.raises(FinetuneError):
            write_new(target, "task: x\n")
    write_starter(folder / "new.yaml", Start(find_task("text-classification"), LONG, str(locked / "train.csv"), {}))
    assert LONG in (folder / "new.yaml").read_text()
