import json

from finetune.cli.app import main
from finetune.recipe.shipped import find_shipped, shipped_recipes


def test_recipes_lists_every_shipped_recipe_with_what_it_does(capsys):
    assert main(["recipes"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(shipped_recipes())
    assert all(len(line.split()) > 5 for line in lines)


def test_recipes_json(capsys):
    assert main(["recipes", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert {"name", "summary"} == set(listed[0])
    assert [entry["name"] for entry in listed] == list(shipped_recipes())


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
