import pytest

from finetune.recipe.aliases import ALIASES
from finetune.recipe.checks import VALUES_NOT_AVAILABLE
from finetune.recipe.expected import allowed_words, expected
from finetune.recipe.keys import all_leaves, dotted, leaf_of
from finetune.recipe.schema import Recipe

LEAVES = [pytest.param(path, field, id=dotted(path)) for path, field in all_leaves().items()]


@pytest.mark.parametrize(("path", "field"), LEAVES)
def test_schema_every_key_says_what_it_means_and_what_it_holds(path, field):
    assert field.description[0].isalpha()
    assert field.description.rstrip().endswith(".")
    assert expected(field)


@pytest.mark.parametrize(("path", "field"), LEAVES)
def test_schema_every_default_is_allowed(path, field):
    recipe = Recipe.model_validate({"task": "t", "model": {"name_or_path": "a/b"}, "dataset": {}})
    assert Recipe.model_validate(recipe.model_dump()) == recipe


def test_schema_is_frozen():
    recipe = Recipe.model_validate({"task": "t", "model": {"name_or_path": "a/b"}, "dataset": {}})
    with pytest.raises(ValueError, match="frozen"):
        recipe.training.seed = 1


def test_schema_the_keys_that_aliases_stand_for_exist():
    assert [name for name, alias in ALIASES.items() if leaf_of(alias.path) is None] == []


@pytest.mark.parametrize(("path", "values"), VALUES_NOT_AVAILABLE.items())
def test_schema_the_values_that_are_not_available_are_those_of_the_format(path, values):
    assert set(values) <= set(allowed_words(all_leaves()[path]))


def test_schema_scheduler_and_optimizer_names_are_those_of_transformers():
    from transformers.trainer_utils import SchedulerType
    from transformers.training_args import OptimizerNames

    from finetune.recipe.checks import SCHEDULERS_NOT_AVAILABLE

    ours = allowed_words(all_leaves()["training", "lr_scheduler_type"])
    assert {*ours, *SCHEDULERS_NOT_AVAILABLE} == {kind.value for kind in SchedulerType}
    assert set(allowed_words(all_leaves()["training", "optim"])) <= {kind.value for kind in OptimizerNames}
