from finetune.runs.differences import differing_keys, flatten, short_key
from tests.runs.builders import make_run


def keys(*recipes):
    return differing_keys([make_run(str(number), recipe=recipe) for number, recipe in enumerate(recipes)])


def test_differences_flatten_keeps_lists_and_empty_sections():
    assert flatten({"a": {"b": 1, "c": {"d": [1]}}, "e": {}}) == {"a.b": 1, "a.c.d": [1], "e": {}}


def test_differences_are_in_the_order_of_a_recipe_and_leave_names_and_places_out():
    one = {
        "name": "x",
        "output_dir": "o",
        "tags": ["t"],
        "hub": {"push_to_hub": True},
        "training": {"seed": 1},
        "model": {"init": "a"},
    }
    other = {"name": "y", "training": {"seed": 2}, "model": {"init": "b"}}
    assert keys(one, other) == ("model.init", "training.seed")
    assert keys(one, one) == ()


def test_differences_take_null_missing_and_empty_as_the_same():
    assert keys({"peft": None, "task": "t"}, {"peft": {}, "task": "t"}, {"task": "t"}) == ()


def test_differences_tell_zero_and_false_from_null():
    assert keys({"training": {"weight_decay": 0.0}}, {"training": {"weight_decay": None}}) == ("training.weight_decay",)
    assert keys({"training": {"fp": False}}, {"training": {}}) == ("training.fp",)


def test_differences_a_run_without_a_recipe_makes_no_difference():
    assert keys({"task": "a"}, {}) == ()


def test_differences_short_key_stays_unique():
    among = ("model.name", "dataset.name", "training.seed")
    assert [short_key(key, among) for key in among] == ["model.name", "dataset.name", "seed"]
