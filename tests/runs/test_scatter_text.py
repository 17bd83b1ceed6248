import pytest

from finetune.runs.compare import compare_runs
from finetune.runs.scatter import scatters
from finetune.runs.scatter_text import scatter_text
from finetune.runs.tables import text_width
from tests.runs.builders import make_emissions, make_run, seeded


def scatter_of(*runs):
    [scatter] = scatters(compare_runs(runs))
    return scatter


def test_scatter_text_puts_the_better_run_higher_and_the_dearer_one_to_the_right():
    text = scatter_text(scatter_of(make_run("good", 0.9, kwh={"gpu": 0.1}), make_run("cheap", 0.6)), 80)
    lines = text.splitlines()
    [(cheap_row, cheap), (good_row, good)] = [
        next((row, line.index(letter)) for row, line in enumerate(lines[1:16]) if letter in line) for letter in "ab"
    ]
    assert good_row < cheap_row
    assert good > cheap
    assert "a cheap: 0.600, 3.00 Wh, front" in lines
    assert "b good: 0.900, 100 Wh, front" in lines


@pytest.mark.parametrize("width", [40, 80, 200])
@pytest.mark.parametrize("count", [1, 2, 60])
def test_scatter_text_keeps_to_the_width(width, count):
    runs = [make_run(f"run-with-a-long-name-{n}", 0.3 + 0.01 * n, kwh={"gpu": 0.001 * 1.2**n}) for n in range(count)]
    for is_ascii in (False, True):
        text = scatter_text(scatter_of(*runs), width, is_ascii)
        assert max(text_width(line) for line in text.splitlines()) <= width
        assert text.isascii() or not is_ascii


def test_scatter_text_of_many_runs_uses_signs_and_lists_the_front():
    runs = [make_run(f"r{n}", 0.9, kwh={"gpu": 0.001 * 2**n}) for n in range(60)]
    text = scatter_text(scatter_of(*runs), 100)
    assert "● front: " in text
    assert "· dominated: " not in text  # the same score everywhere: nothing is shown to be better
    assert "○ undecided: " in text
    assert "● r0: 0.900, 1.00 Wh, front" in text
    assert "r7: " not in text


def test_scatter_text_runs_in_one_place_share_their_letter():
    runs = [make_run("one"), make_run("two"), make_run("far", 0.9, kwh={"gpu": 1.0})]
    text = scatter_text(scatter_of(*runs), 80)
    drawn, _, legend = text.partition("\n\n")
    assert [line[:6] for line in legend.splitlines()] == ["a one:", "a two:", "b far:"]
    assert {letter for letter in "abc" if any(f"─{letter}─" in line or f" {letter} " in line
                                             for line in drawn.splitlines()[1:16])} == {"a", "b"}  # fmt: skip


def test_scatter_text_says_what_is_a_lower_bound_and_what_is_not_drawn():
    unread = make_run("unread", emissions=make_emissions({"cpu": 0.002}, complete=False, energy_kwh_high=None))
    text = scatter_text(scatter_of(make_run("a"), unread, make_run("dark", emissions={})), 80)
    assert "unread: 0.800, ≥ 2.00 Wh, not ranked" in text
    assert "→" in text
    assert "not drawn: dark: energy not measured" in text


def test_scatter_text_holds_nothing_that_steers_a_terminal():
    text = scatter_text(scatter_of(make_run("a", name="red\x1b[31m"), make_run("b", name="b")), 80)
    assert "\x1b" not in text


def test_scatter_text_of_groups_draws_a_letter_for_each():
    runs = [*seeded("good", (0.90, 0.92, 0.91), 0.01), *seeded("cheap", (0.6, 0.61, 0.62), 0.001, rate=5e-4)]
    lines = scatter_text(scatter_of(*runs), 80).splitlines()
    assert lines[0] == "accuracy on test, mean ± 95 %"
    assert lines[-2:] == [
        "a cheap (3 seeds): 0.610 ± 0.025, 1.00 Wh, front",
        "b good (3 seeds): 0.910 ± 0.025, 10.0 Wh, front",
    ]
