import json

from finetune.cli.app import main
from finetune.recipe.shipped import find_shipped, shipped_recipes
from finetune.tasks import all_tasks


def test_recipes_lists_what_each_is_for_and_what_it_takes(capsys):
    assert main(["recipes"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines[:-3:2]] == list(shipped_recipes())
    assert lines[lines.index(next(line for line in lines if line.startswith("sst2-"))) + 1] == (
        "    text-classification · encoder-only, 43 M · glue sst2, 67,349 rows × 3 · 60 Wh (GPU 3 Wh)"
    )
    assert "finetune estimate" in lines[-2]
    assert "finetune sweep quickstart" in lines[-1]
    assert "finetune study distil | transfer" in lines[-1]


def test_recipes_json(capsys):
    assert main(["recipes", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [entry["name"] for entry in listed] == list(shipped_recipes())
    for entry in listed:
        assert entry["task"] in all_tasks()
        assert entry["kind"] in all_tasks()[entry["task"]].auto_classes
        assert 0 < entry["expected_wh"]["gpu"] < entry["expected_wh"]["processor"]


def test_recipes_prints_one(capsys):
    assert main(["recipes", "imdb-gpt2"]) == 0
    assert capsys.readouterr().out == find_shipped("imdb-gpt2").read_text(encoding="utf-8")


def test_recipes_copies_one(tmp_path, capsys):
    target = tmp_path / "mine.yaml"
    assert main(["recipes", "imdb-gpt2", "--copy-to", str(target)]) == 0
    assert target.read_text(encoding="utf-8") == find_shipped("imdb-gpt2").read_text(encoding="utf-8")
    assert main(["recipes", "imdb-gpt2", "--copy-to", str(target)]) == 1
    assert "is there already" in capsys.readouterr().err


def test_recipes_copy_needs_a_name(tmp_path, capsys):
    assert main(["recipes", "--copy-to", str(tmp_path / "x.yaml")]) == 2
    assert "needs the name of a recipe" in capsys.readouterr().err
