import math

import pytest

from finetune.recipe.yaml_lines import core_scalar, read_yaml


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2e-5", 2e-5), ("1e5", 1e5), ("1.", 1.0), (".5", 0.5), ("+3", 3), ("-0", 0), ("010", 10), ("0o17", 15),
        ("0x1F", 31), ("true", True), ("False", False), ("null", None), ("~", None), ("", None), (".inf", math.inf),
        ("-.INF", -math.inf), ("no", "no"), ("off", "off"), ("yes", "yes"), ("on", "on"), ("y", "y"),
        ("1_000", "1_000"),
        ("0b1", "0b1"), ("1:30", "1:30"), ("2020-01-01", "2020-01-01"), ("e5", "e5"), (".", "."), ("tRue", "tRue"),
        ("1e", "1e"), ("0o8", "0o8"), ("=", "="),
    ],
)  # fmt: skip
def test_yaml_lines_reads_scalars_by_the_core_schema(text, value):
    read = core_scalar(text)
    assert (read, type(read)) == (value, type(value))


def test_yaml_lines_reads_not_a_number():
    assert math.isnan(core_scalar(".nan"))


def test_yaml_lines_takes_a_very_long_number_for_a_text():
    assert core_scalar("9" * 5000) == "9" * 5000


def test_yaml_lines_quoted_scalars_are_texts():
    root, faults = read_yaml("a: 'no'\nb: \"1\"\nc: |\n  2\n")
    assert faults == []
    assert root.plain() == {"a": "no", "b": "1", "c": "2\n"}


def test_yaml_lines_keeps_the_line_of_every_key_and_item():
    root, _ = read_yaml("a: 1\n\nb:\n  # comment\n  c: {d: 2,\n      e: 3}\n  f:\n    - x\n    - y\n")
    inner = root.value["b"].value
    assert [root.value["a"].line, root.value["b"].line, inner["c"].line, inner["c"].value["e"].line] == [1, 3, 5, 6]
    assert [item.line for item in inner["f"].value] == [8, 9]


def test_yaml_lines_reports_every_repeated_key_and_keeps_the_first():
    root, faults = read_yaml("a: 1\na: 2\nb: {c: 1, c: 2}\n")
    assert root.plain() == {"a": 1, "b": {"c": 1}}
    assert [(fault.line, fault.message) for fault in faults] == [
        (2, "the key a is already on line 1; keep one"),
        (3, "the key c is already on line 3; keep one"),
    ]


def test_yaml_lines_refuses_a_bomb_of_aliases_at_its_first_anchor():
    bomb = "a: &a [x, x]\n" + "".join(
        f"{chr(98 + i)}: &{chr(98 + i)} [*{chr(97 + i)}, *{chr(97 + i)}]\n" for i in range(20)
    )
    root, faults = read_yaml(bomb)
    assert root is None
    assert [(fault.line, fault.message.split(" are")[0]) for fault in faults] == [(1, "anchors and aliases (&a, *a)")]
