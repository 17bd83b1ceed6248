import json
import math
import random
import re
from dataclasses import replace
from statistics import fmean, stdev

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from finetune.errors import FinetuneError
from finetune.runs.compare import compare_runs
from finetune.runs.compare_report import comparison_csv, comparison_markdown, comparison_text, table_columns
from finetune.runs.comparison import VARIES, Grid, comparison_to_json
from tests.runs.builders import make_emissions, seeded

GOOD, BAD = (0.90, 0.92, 0.91), (0.70, 0.71, 0.72)


def group_of(comparison, name):
    return next(group for group in comparison.groups if group.name == name)


def test_groups_several_seeds_of_a_recipe_are_put_together_without_being_asked():
    comparison = compare_runs([*seeded("good", GOOD, 2.0), *seeded("bad", BAD, 1.0, rate=5e-4)])
    assert comparison.grouped_by == "training.seed"
    assert [group.name for group in comparison.groups] == ["good", "bad"]
    good = group_of(comparison, "good")
    half = stats.t.ppf(0.975, 2) * 0.01 / math.sqrt(3)
    assert (good.score.value, good.score.low, good.score.high) == pytest.approx((0.91, 0.91 - half, 0.91 + half))
    assert good.differences == {"training.learning_rate": 1e-4}
    assert all(group.on_front for group in comparison.groups)
    assert len(comparison.rows) == 6
    assert not compare_runs([*seeded("good", GOOD)], group_by="none").groups


@pytest.mark.parametrize(
    ("names", "group"),
    [
        (("pay-full-40-s1", "pay-full-40-s2", "pay-full-40-s10"), "pay-full-40"),
        (("pay-full", "pay-full-again", "pay-full"), "pay-full"),
        (("tuned", "again", "tuna"), "again"),  # words that begin alike are not the same
    ],
)
def test_groups_have_the_words_that_the_names_of_their_runs_share(names, group):
    runs = [replace(run, name=name) for run, name in zip(seeded("good", GOOD), names, strict=True)]
    assert [found.name for found in compare_runs(runs).groups] == [group]


def test_groups_are_not_made_of_repeats_of_one_seed():
    again = seeded("good", GOOD, seeds=(1, 1, 1))
    assert not compare_runs(again).groups
    twice = [*again[:2], *seeded("other", (0.8,), seeds=(2,))]
    comparison = compare_runs(twice)
    [group] = comparison.groups
    assert (group.score.value, group.score.n) == (pytest.approx((0.91 + 0.8) / 2), 2)
    assert any("count once, with their mean" in note for note in comparison.notes)


def test_groups_of_one_seed_say_that_their_noise_is_unknown():
    comparison = compare_runs([*seeded("good", GOOD), *seeded("lone", (0.7,), 1.0, rate=5e-4)])
    assert group_of(comparison, "lone").score.low is None
    assert any("one seed only, seed noise unknown: lone" in note for note in comparison.notes)
    assert "seed noise unknown" in comparison_text(comparison, 120)


def test_groups_one_seed_is_not_dominated_by_several_that_scatter_widely():
    runs = [*seeded("three", (0.60, 0.99, 0.93), 1.0), *seeded("lone", (0.78,), 2.0, rate=5e-4)]
    comparison = compare_runs(runs)
    [pair] = comparison.pairs
    assert pair.delta.score.inside_seed_noise
    assert group_of(comparison, "lone").on_front
    # The energies of the several scatter by 30 %, and so may that of the one.
    runs = [*seeded("three", GOOD, (0.7, 1.0, 1.3)), *seeded("lone", (0.5,), 1.6, rate=5e-4)]
    ratio = compare_runs(runs).pairs[0].delta.energy
    logs = [math.log(kwh) for kwh in (0.7, 1.0, 1.3)]
    assert ratio.high / ratio.value == pytest.approx(math.exp(stats.t.ppf(0.975, 2) * stdev(logs) * math.sqrt(4 / 3)))
    assert ratio.verdict == "undecided"
    steady = [*seeded("three", GOOD, (1.0, 1.001, 0.999)), *seeded("lone", (0.5,), 1.6, rate=5e-4)]
    ratio = compare_runs(steady).pairs[0].delta.energy
    assert ratio.high / ratio.value == pytest.approx(1.05)  # not less than what is assumed of a single run


def test_groups_a_seed_that_was_run_twice_counts_once_in_the_energy_too():
    again = [replace(run, run_id=f"again-{run.run_id}", emissions=make_emissions({"gpu": kwh}))
             for run, kwh in zip(seeded("good", GOOD[:1]), (3.0,), strict=True)]  # fmt: skip
    good, bad = seeded("good", GOOD, (1.0, 2.1, 1.9)), seeded("bad", BAD, (1.0, 1.02, 0.99), 5e-4)
    once = compare_runs([*seeded("good", GOOD, (2.0, 2.1, 1.9)), *bad])
    comparison = compare_runs([*good, *again, *bad])
    found, expected = comparison.pairs[0].delta, once.pairs[0].delta
    assert (found.energy.value, found.energy.low, found.energy.high, found.energy.seeds) == pytest.approx(
        (expected.energy.value, expected.energy.low, expected.energy.high, 3)
    )
    assert found.marginal_g_per_point == pytest.approx(expected.marginal_g_per_point)
    assert group_of(comparison, "good").ranked_kwh == pytest.approx(2.0)


def test_groups_with_some_seeds_in_common_take_gain_and_grams_over_these():
    good, bad = seeded("good", GOOD, (2.0, 2.1, 1.9)), seeded("bad", BAD, (1.0, 1.02, 0.99), 5e-4)
    more = seeded("good", (0.99,), 9.0, seeds=(4,))
    more = [replace(run, run_id="good-more") for run in more]
    alone, found = (compare_runs(runs).pairs[0].delta for runs in ([*good, *bad], [*good, *more, *bad]))
    assert (found.score.value, found.energy.value) == pytest.approx((alone.score.value, alone.energy.value))
    assert (found.emissions_g, found.marginal_g_per_point) == pytest.approx(
        (alone.emissions_g, alone.marginal_g_per_point)
    )


def test_groups_steps_lead_along_the_decided_front_only():
    cheap, dear = seeded("cheap", BAD, 1.0), seeded("dear", GOOD, 3.0, rate=2e-4)
    between = seeded("between", (0.69, 0.70, 0.72), 2.0, rate=3e-4)  # not shown to be worse than cheap
    comparison = compare_runs([*cheap, *between, *dear])
    assert all(group.on_front for group in comparison.groups)
    assert group_of(comparison, "dear").next_cheaper == "cheap"
    assert group_of(comparison, "dear").step.marginal_g_per_point == pytest.approx(100 * 2.0 / 20)
    assert (group_of(comparison, "between").next_cheaper, group_of(comparison, "between").step) == (None, None)


def test_groups_that_do_not_show_what_they_are_sorted_by_come_last():
    def with_cost(name, costs, rate):
        runs = seeded(name, GOOD, 1.0, rate=rate)
        return [
            replace(run, emissions={**run.emissions, "wh_per_1000_predictions": cost})
            for run, cost in zip(runs, costs, strict=True)
        ]

    partly, known = with_cost("partly", (0.1, None, 0.1), 1e-4), with_cost("known", (0.5, 0.5, 0.5), 5e-4)
    comparison = compare_runs([*partly, *known], sort="wh_per_1000_predictions")
    assert [group.name for group in comparison.groups] == ["known", "partly"]


def test_groups_of_equal_recipes_call_none_dominated_in_nineteen_of_twenty_fronts():
    draw, wrong = random.Random(4), 0
    for _ in range(60):
        runs = [
            run
            for number in range(8)
            for run in seeded(
                f"g{number}", [draw.gauss(0.8, 0.02) for _ in range(3)], 2.0**number, float(number), half_width=1e-6
            )
        ]
        wrong += any(group.dominated_by for group in compare_runs(runs).groups)
    assert wrong <= 6  # at most 3 of 60 at 5 %; 25 of 60 where no pair counts how many were tried


def test_groups_of_which_energy_is_a_lower_bound_say_so_of_the_grams_too():
    bound = make_emissions({"gpu": 1.0}, complete=False)
    runs = [*seeded("bound", GOOD[:2], emissions=bound), *seeded("known", BAD[:2], rate=5e-4)]
    text = comparison_text(compare_runs(runs), 120)
    assert "≥ 100" in text
    assert text.count("≥") == 2


def test_groups_dominated_ones_say_by_whom():
    comparison = compare_runs([*seeded("good", GOOD, 1.0), *seeded("poor", (0.2, 0.21, 0.19), 9.0, rate=5e-4)])
    assert re.search(r"\n  dominated by .*\n    good", comparison_text(comparison, 120))
    assert "dominated by · good" in comparison_markdown(comparison)


def test_groups_differ_by_seed_pairs():
    comparison = compare_runs([*seeded("good", GOOD, (2.0, 2.1, 1.9)), *seeded("bad", BAD, (1.0, 1.02, 0.99), 5e-4)])
    [pair] = comparison.pairs
    assert (pair.name, pair.against) == ("good", "bad")
    each = [one - other for one, other in zip(GOOD, BAD, strict=True)]
    v = 2 * (0.02 / 1.959964) ** 2  # the intervals of the scores, ±0.02, as if of other rows
    half = stats.t.ppf(0.975, 2) * math.sqrt(stdev(each) ** 2 / 3 + v)
    assert (pair.delta.score.value, pair.delta.score.low) == pytest.approx((fmean(each), fmean(each) - half))
    logs = [math.log(one / other) for one, other in zip((2.0, 2.1, 1.9), (1.0, 1.02, 0.99), strict=True)]
    spread = math.exp(stats.t.ppf(0.975, 2) * stdev(logs) / math.sqrt(3))
    value = math.exp(fmean(logs))
    # One machine and method: the factor of the GPU's counter cancels, the spread between seeds is left.
    assert (pair.delta.energy.value, pair.delta.energy.low, pair.delta.energy.high) == pytest.approx(
        (value, value / spread, value * spread)
    )
    assert pair.delta.energy.verdict == "dearer"
    # 1 kWh more at 100 g/kWh for 20 points.
    extra = 100 * (fmean((2.0, 2.1, 1.9)) - fmean((1.0, 1.02, 0.99)))
    assert pair.delta.marginal_g_per_point == pytest.approx(extra / (100 * fmean(each)))
    good = group_of(comparison, "good")
    assert (good.next_cheaper, good.step.marginal_g_per_point) == ("bad", pytest.approx(extra / (100 * fmean(each))))


def test_groups_share_factors_only_with_runs_of_the_same_machine():
    def ratio(machine):
        there = [
            replace(run, emissions=make_emissions({"gpu": kwh}, machine))
            for run, kwh in zip(seeded("there", BAD, rate=5e-4), (1.0, 1.02, 0.99), strict=True)
        ]
        return compare_runs([*seeded("here", GOOD, (2.0, 2.1, 1.9)), *there]).pairs[0].delta.energy

    same, other = ratio("boot-1"), ratio("boot-2")
    assert other.value == pytest.approx(same.value)
    assert other.high == pytest.approx(same.high * 1.1 / 0.9)


def test_groups_a_difference_inside_the_noise_of_seeds_is_called_that():
    comparison = compare_runs([*seeded("a", (0.8, 0.9, 0.85)), *seeded("b", (0.9, 0.8, 0.84), rate=5e-4)])
    assert comparison.pairs[0].delta.score.inside_seed_noise
    assert "inside the noise of seeds" in comparison_text(comparison, 100)


@pytest.mark.parametrize(
    "fields",
    [
        {"emissions": {}},
        {"emissions": make_emissions({"gpu": 0.001}, shared_with=["another"])},
        {"emissions": make_emissions({"gpu": 0.001}, complete=False)},
    ],
)
def test_groups_with_energy_that_is_not_wholly_known_are_not_ranked_by_it(fields):
    odd = [*seeded("odd", GOOD[:2]), *seeded("odd", (0.91,), seeds=(3,), **fields)]
    odd = [replace(run, run_id=f"odd-{number}") for number, run in enumerate(odd)]
    comparison = compare_runs([*odd, *seeded("known", BAD, 5.0, rate=5e-4)], sort="energy_kwh")
    assert [group.name for group in comparison.groups] == ["known", "odd"]
    assert not group_of(comparison, "odd").on_front
    assert group_of(comparison, "known").on_front
    assert comparison.pairs[0].delta.energy is None
    assert comparison.pairs[0].delta.marginal_g_per_point is None


def test_groups_say_of_energy_and_grams_alike_that_they_are_lower_bounds():
    partly = make_emissions({"gpu": 0.001}, complete=False)
    runs = [*seeded("bound", GOOD, emissions=partly), *seeded("whole", BAD, 1.0, rate=5e-4)]
    comparison = compare_runs(runs, grid=Grid("BRA", 50.0, "stated"))
    columns = {column.heading: column.cells for column in table_columns(comparison, " ")}
    for heading in ("energy kWh", "g CO2e as run", "g CO2e @BRA"):
        bound, whole = columns[heading]
        assert bound.startswith("≥ "), heading
        assert "≥" not in whole


def test_groups_leave_out_what_did_not_finish_and_what_has_no_score():
    runs = seeded("good", GOOD)
    broken = replace(runs[2], status="failed")
    unscored = replace(runs[1], run_id="unscored", main_metric={}, metrics={})
    comparison = compare_runs([*runs[:2], broken, unscored])
    assert group_of(comparison, "good").score.n == 2
    assert any("good-2 is failed: not in a group" in note for note in comparison.notes)
    assert any("unscored has no score: not in a group" in note for note in comparison.notes)


def test_groups_by_a_recipe_key_pair_runs_that_agree_in_everything_else():
    runs = [*seeded("a", GOOD, 1.0, 1e-4), *seeded("b", BAD, 2.0, 5e-4)]
    comparison = compare_runs(runs, group_by="learning_rate")
    assert comparison.grouped_by == "training.learning_rate"
    assert [group.name for group in comparison.groups] == ["learning_rate=0.0001", "learning_rate=0.0005"]
    assert comparison.pairs[0].delta.score.seeds == 3
    assert group_of(comparison, "learning_rate=0.0001").differences["training.seed"] == VARIES
    by_seed_number = compare_runs(runs, group_by="training.seed")
    assert by_seed_number.grouped_by == "training.seed"
    with pytest.raises(FinetuneError, match=r"did you mean training\.learning_rate"):
        compare_runs(runs, group_by="training.learning_rat")


def test_groups_of_one_name_are_told_apart_by_what_differs():
    comparison = compare_runs([*seeded("x", GOOD, rate=1e-4), *map(renumbered, seeded("x", BAD, rate=5e-4))])
    assert {group.name for group in comparison.groups} == {"x (learning_rate=0.0001)", "x (learning_rate=0.0005)"}


def renumbered(run):
    return replace(run, run_id=run.run_id.replace("x-", "x-9"))


def test_groups_against_a_baseline_and_against_the_best():
    runs = [
        run for n in range(6) for run in seeded(f"g{n}", tuple(0.6 + n / 20 + d for d in (0, 0.004, 0.002)), 1 + n, n)
    ]
    comparison = compare_runs(runs)
    assert {pair.against for pair in comparison.pairs} == {"g5"}
    assert len(comparison.pairs) == 5
    named = compare_runs(runs, baseline=next(run for run in runs if run.name == "g0"))
    assert {pair.against for pair in named.pairs} == {"g0"}
    assert all(pair.delta.score.p_holm >= pair.delta.score.p for pair in named.pairs)


def test_groups_in_every_form_of_output():
    comparison = compare_runs([*seeded("good", GOOD, 2.0), *seeded("bad", BAD, 1.0, rate=5e-4)])
    text, markdown = comparison_text(comparison, 120), comparison_markdown(comparison)
    for out in (text, markdown):
        assert "0.910 ± 0.025" in out
        assert "3 seeds" in out
    assert "1e-04" in text or "0.0001" in text
    lines = comparison_csv(comparison).splitlines()
    assert lines[0].startswith("name,set,metric,split,")
    assert [line.split(",")[0] for line in lines[1:]] == ["good", "bad"]
    content = json.loads(json.dumps(comparison_to_json(comparison)))
    assert [group["name"] for group in content["groups"]] == ["good", "bad"]
    assert content["groups"][0]["score"]["n"] == 3
    assert content["pairs"][0]["seeds"] == 3
    assert len(content["runs"]) == 6
    assert "trained" not in comparison_text(comparison, 120, only_changed=True)


cells = st.tuples(st.sampled_from([0.2, 0.5, 0.9]), st.sampled_from([0.001, 0.002, 0.01, None]))


@settings(max_examples=40, deadline=None)
@given(cells=st.lists(cells, min_size=2, max_size=6), order=st.randoms())
def test_groups_are_free_of_order_and_their_front_is_right(cells, order):
    runs = []
    for number, (score, kwh) in enumerate(cells):
        near = tuple(score + step for step in (0.0, 0.004, -0.004))
        energies = None if kwh is None else tuple(kwh * step for step in (1.0, 1.01, 0.99))
        empty = {"emissions": {}} if kwh is None else {}
        runs += seeded(f"g{number}", near, energies, float(number + 1), **empty)
    shuffled = list(runs)
    order.shuffle(shuffled)
    comparison = compare_runs(runs)
    assert comparison_to_json(comparison) == comparison_to_json(compare_runs(shuffled))
    for number, (score, kwh) in enumerate(cells):
        # The differences are the same for each seed, and ±0.063 of rows lies between 0.3 and 0; energies apart by 2.
        beaten = kwh is not None and any(
            other_kwh is not None and other - score > 0.2 and other_kwh < 0.9 * kwh for other, other_kwh in cells
        )
        assert group_of(comparison, f"g{number}").on_front == (kwh is not None and not beaten)


def test_groups_of_a_thousand_runs_take_no_pair_of_runs_apart():
    draw = random.Random(0)
    runs = [
        run
        for n in range(330)
        for run in seeded(f"g{n}", tuple(draw.uniform(0.5, 0.9) for _ in range(3)), draw.uniform(1, 9), float(n))
    ]
    comparison = compare_runs(runs)
    assert len(comparison.groups) == 330
    assert any(group.on_front for group in comparison.groups)
