from finetune.text import first_line, nearest_or_all


def test_nearest_or_all_names_the_one_that_is_near_or_each_once():
    assert nearest_or_all("trails", ["trials", "seeds"]) == "did you mean trials?"
    assert nearest_or_all("x", ["trials", "seeds", "trials"], "it has") == "it has trials and seeds"


def test_first_line_of_an_error_is_never_empty():
    assert first_line(ValueError("\n  wrong size\nat 3")) == "wrong size"
    assert first_line(AssertionError()) == "AssertionError"
