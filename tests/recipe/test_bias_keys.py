import pytest

from finetune.cli.app import main
from finetune.recipe.bias_keys import BiasProbe, bias_probes, entry_faults
from finetune.recipe.load import load_recipe


@pytest.mark.parametrize(
    ("entry", "fault"),
    [
        ({}, "probe is missing; expected pairs, swaps or groups"),
        ({"probe": "swap"}, "probe: expected pairs, swaps or groups, found 'swap'; did you mean swaps?"),
        ({"probe": "swaps", "langage": "en"}, "unknown key langage; did you mean language?"),
        ({"probe": "swaps", "language": "EN"}, "language: expected two or three lower-case letters, as pt, found 'EN'"),
        ({"probe": "swaps"}, "language is missing, such as en or pt: that of the terms"),
        ({"probe": "pairs"}, "file is missing: the pairs, as csv or jsonl"),
        ({"probe": "pairs", "file": "a", "terms": "b"}, "terms: pairs has no use for it, but swaps; leave it out"),
        ({"probe": "pairs", "file": "a", "max_rows": 0}, "max_rows: expected a whole number, at least 1, found 0"),
        ({"probe": "groups", "hateful_label": "x"},
         "give a file of cases, or the column of the dataset that holds the groups: one of the two"),
        ({"probe": "groups", "file": "a", "hateful_label": "x"},
         "language is missing: that of the cases, which must be one of the model's"),
        ({"probe": "groups", "file": "a", "language": "en"},
         "hateful_label is missing: which label(s) of the model count as hateful"),
        ({"probe": "groups", "column": "c", "only_groups": ["a", "a"]},
         "only_groups: name two at least, to be compared"),
        ({"probe": "groups", "column": "c", "only_groups": "a"}, "only_groups: expected a list of texts, found 'a'"),
    ],
)  # fmt: skip
def test_bias_keys_say_what_is_wrong_with_an_entry(entry, fault):
    assert entry_faults(entry) == [fault]


def test_bias_keys_read_one_label_or_several():
    probes = bias_probes([{"probe": "swaps", "language": "en", "hateful_label": label} for label in ("a", ["a", "b"])])
    assert [probe.hateful_labels for probe in probes] == [("a",), ("a", "b")]
    assert BiasProbe(probe="swaps").hateful_labels == ()


def test_bias_keys_files_are_relative_to_the_recipe(toy_recipe, tmp_path):
    (tmp_path / "pairs.csv").write_text("more,less\na,b\n")
    path = toy_recipe(evaluation={"bias": [{"probe": "pairs", "file": "pairs.csv"}]})
    assert load_recipe(path).recipe.evaluation.bias == [{"probe": "pairs", "file": str(tmp_path / "pairs.csv")}]


def test_bias_keys_are_refused_with_their_line(toy_recipe, tmp_path, capsys):
    bias = [
        {"probe": "pairs", "file": "nothere.csv"},
        {"probe": "pairs", "file": "https://example.org/a.csv"},
        {"probe": 3},
    ]
    path = toy_recipe(evaluation={"bias": bias})
    assert main(["validate", str(path)]) == 1
    said = capsys.readouterr().err
    assert said.count(": evaluation.bias: ") == 3
    assert "item 3: probe: expected pairs, swaps or groups, found 3" in said
    assert "nothere.csv does not exist" in said
    assert "is an address, not a file; download it first" in said
