import json
import math
import random
import re
from dataclasses import replace

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from finetune.errors import FinetuneError
from finetune.runs.compare import compare_runs
from finetune.runs.compare_report import comparison_markdown, comparison_text
from finetune.runs.comparison import Grid, comparison_to_json, score_difference
from finetune.runs.record import Score, list_runs
from tests.runs.builders import STORED, make_emissions, make_run

FRANCE = Grid("FRA", 56.0, "a table")


def row_of(comparison, run_id):
    return next(row for row in comparison.rows if row.run.run_id == run_id)


def front(comparison):
    return comparison_to_json(comparison)["pareto"]


def test_compare_puts_the_best_score_first_and_shows_what_differs():
    good = make_run("good", 0.9, recipe={"model": {"init": "pretrained"}, "training": {"seed": 1}, "name": "x"})
    bad = make_run("bad", 0.4, recipe={"model": {"init": "scratch"}, "training": {"seed": 1}, "name": "y"})
    comparison = compare_runs([bad, good])
    assert [row.run.run_id for row in comparison.rows] == ["good", "bad"]
    assert comparison.keys == ("model.init",)
    assert [row.differences for row in comparison.rows] == [{"model.init": "pretrained"}, {"model.init": "scratch"}]


def test_compare_takes_lower_as_better_where_the_record_says_so():
    def with_loss(run_id, value):
        main = {"name": "mse", "value": value, "low": value - 0.01, "high": value + 0.01, "n": 9, "split": "test"}
        return make_run(run_id, main_metric={**main, "greater_is_better": False}, metrics={}, kwh={"gpu": value})

    comparison = compare_runs([with_loss("bad", 0.9), with_loss("good", 0.1)])
    assert [row.run.run_id for row in comparison.rows] == ["good", "bad"]
    assert front(comparison) == ["good"]
    assert row_of(comparison, "good").delta.score.value == pytest.approx(-0.8)


def test_compare_score_difference_is_newcombes_interval():
    # Newcombe 1998, method 10, example: 56/70 - 48/80 = 0.2, interval 0.0524 to 0.3339,
    # from the Wilson intervals 0.6921–0.8772 and 0.4905–0.7005.
    found = score_difference(Score(0.8, 0.6921, 0.8772, 70), Score(0.6, 0.4905, 0.7005, 80))
    assert (found.value, found.low, found.high) == pytest.approx((0.2, 0.2 - 0.1472, 0.2 + 0.1340), abs=6e-4)
    assert found.is_distinguished
    assert not score_difference(Score(0.8), Score(0.6, 0.5, 0.7)).is_distinguished


def test_compare_front_needs_both_differences_beyond_doubt():
    best = make_run("best", 0.9, kwh={"gpu": 1.0})
    worse_and_dearer = make_run("beaten", 0.7, kwh={"gpu": 2.0})
    same_score = make_run("same-score", 0.89, kwh={"gpu": 2.0})
    same_energy = make_run("same-energy", 0.7, kwh={"gpu": 1.04})
    elsewhere = make_run("elsewhere", 0.7, kwh={"gpu": 1.15}, machine="boot-2")
    comparison = compare_runs([best, worse_and_dearer, same_score, same_energy, elsewhere])
    assert front(comparison) == ["best", "same-score", "elsewhere", "same-energy"]
    assert row_of(comparison, "beaten").dominated_by == "best"


def test_compare_dominated_runs_say_by_whom():
    runs = [make_run("x-best", 0.9, kwh={"gpu": 1.0}), make_run("x-beaten", 0.5, kwh={"gpu": 2.0})]
    comparison = compare_runs(runs)
    for text in (comparison_text(comparison, 120), comparison_markdown(comparison)):
        assert "dominated by best" in text
        assert "dominated by: that one is shown to score higher with less energy" in text
    assert "dominated" not in comparison_text(compare_runs(runs[:1]), 120)


def test_compare_of_equal_runs_calls_none_dominated_in_nineteen_of_twenty_fronts():
    # Each score is drawn with the noise that its own interval states; every run is as good as every other.
    draw, noise = random.Random(2), 0.02 / 1.959964
    runs = [make_run(f"r{number:02}", kwh={"gpu": 1.2**number}) for number in range(50)]
    wrong = 0
    for _ in range(40):
        drawn = [replace(run, main_metric=around(draw.gauss(0.8, noise))) for run in runs]
        wrong += any(row.dominated_by for row in compare_runs(drawn).rows)
    assert wrong <= 5  # at most 2 of 40 at 5 %; 40 of 40 where no pair counts how many were tried


def around(value):
    return {"name": "accuracy", "value": value, "low": value - 0.02, "high": value + 0.02, "n": 500, "split": "test",
            "greater_is_better": True}  # fmt: skip


def test_compare_counts_the_pairs_of_a_front_before_it_calls_a_run_dominated():
    def front_of(others):
        best, worse = make_run("best", 0.85, kwh={"gpu": 1.0}), make_run("worse", 0.80, kwh={"gpu": 2.0})
        far = [make_run(f"far{number}", 0.3, 0.3, kwh={"gpu": 3.0 + number}) for number in range(others)]
        return row_of(compare_runs([best, worse, *far]), "worse")

    # The difference is 0.05 ± 0.0283: p = 0.0005, which is beyond doubt once and not as one of 105 tries.
    assert front_of(0).dominated_by == "best"
    assert front_of(13).dominated_by is None


def test_compare_steps_lead_along_the_decided_front_only():
    cheap, dear = make_run("cheap", 0.7, kwh={"gpu": 1.0}), make_run("dear", 0.9, kwh={"gpu": 3.0})
    between = make_run("between", 0.69, kwh={"gpu": 2.0})  # not shown to be worse than cheap
    comparison = compare_runs([cheap, between, dear])
    assert front(comparison) == ["dear", "cheap", "between"]
    assert row_of(comparison, "dear").next_cheaper == "cheap"
    assert row_of(comparison, "dear").step.marginal_g_per_point == pytest.approx(100 * 2.0 / 20)
    assert (row_of(comparison, "between").next_cheaper, row_of(comparison, "between").step) == (None, None)


def test_compare_says_of_which_confidence_the_intervals_are_and_judges_at_95():
    def at(level, run_id, accuracy, half_width):
        return make_run(run_id, accuracy, half_width, recipe={"evaluation": {"confidence": level}})

    usual = compare_runs([make_run("a", 0.83), make_run("b", 0.80)]).rows[0].delta.score
    narrow = 0.02 * 1.281552 / 1.959964
    comparison = compare_runs([at(0.8, "a", 0.83, narrow), at(0.8, "b", 0.80, narrow)])
    found = comparison.rows[0].delta.score
    assert (found.low, found.high, found.p) == pytest.approx((usual.low, usual.high, usual.p), rel=1e-5)
    assert any("the intervals shown for single runs are of 80 %" in note for note in comparison.notes)
    assert comparison.rows[0].score.low == pytest.approx(0.83 - narrow)
    assert not any("intervals shown" in note for note in compare_runs([make_run("a"), make_run("b")]).notes)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"emissions": make_emissions({"gpu": 0.01}, shared_with=None)}, "nobody could look whether other runs"),
        ({"emissions": {}}, "energy not measured"),
        ({"emissions": {"energy_kwh": None, "complete": False}}, "energy not measured"),
        ({"emissions": make_emissions({"gpu": 0.01}, complete=False, energy_kwh_high=None)}, "lower bound"),
        ({"emissions": make_emissions({"gpu": 0.01}, shared_with=["other-run"])}, "shared the machine with other-run"),
        ({"emissions": make_emissions({"gpu": 0.01}, repeated_work_kwh=0.01)}, "work that was done again"),
        ({"emissions": {**make_emissions({"gpu": 0.01}), "phases": {}}}, "train, evaluate and save not known"),
        ({"status": "interrupted", "emissions": make_emissions({"gpu": 0.01})}, "interrupted: not a whole run"),
        ({"status": "failed", "emissions": make_emissions({"gpu": 0.01})}, "failed: not a whole run"),
    ],
)
def test_compare_never_ranks_energy_that_is_not_wholly_known(fields, reason):
    unknown, known = make_run("unknown", 0.99, **fields), make_run("known", 0.5, kwh={"gpu": 1.0})
    comparison = compare_runs([unknown, known], sort="energy_kwh")
    assert front(comparison) == ["known"]
    assert [row.run.run_id for row in comparison.rows] == ["known", "unknown"]
    row = row_of(comparison, "unknown")
    assert reason in " ".join(row.not_ranked)
    assert row.dominated_by is None
    assert any("unknown is not ranked by energy" in note and reason in note for note in comparison.notes)
    other = row.delta or row_of(comparison, "known").delta
    assert other.energy is None
    assert other.marginal_g_per_point is None


@pytest.mark.parametrize(
    "change",
    [
        {"dataset": {"path": "data.csv", "fingerprint": "f2"}},
        {"dataset": {"path": "data.csv"}},
        {"main_metric": {"name": "accuracy", "value": 0.5, "low": 0.4, "high": 0.6, "n": 500, "split": "validation"}},
        {"main_metric": {"name": "f1_macro", "value": 0.5, "low": 0.4, "high": 0.6, "n": 500, "split": "test"}},
        {"main_metric": {"name": "accuracy", "value": 0.5, "low": 0.4, "high": 0.6, "n": 100, "split": "test"}},
    ],
)
def test_compare_does_not_rank_other_data_splits_rows_or_metrics_together(change):
    ours, theirs = make_run("a", 0.9, kwh={"gpu": 1.0}), make_run("b", 0.5, kwh={"gpu": 9.0}, **change)
    comparison = compare_runs([ours, theirs], baseline=ours)
    assert [run_set.name for run_set in comparison.sets] == ["A", "B"]
    assert front(comparison) == ["a", "b"]
    assert row_of(comparison, "b").delta.score is None
    assert any("not ranked together" in note for note in comparison.notes)


def on_split(run_id, whole, each, accuracy=0.8, **dataset):
    return make_run(run_id, accuracy, dataset={"path": "d", "fingerprint": whole, "fingerprints": each, **dataset})


def test_compare_ranks_runs_together_that_are_scored_on_the_same_rows_whatever_they_trained_on():
    few = on_split("few", "w1", {"train": "aaaaaaaaaa", "test": "t"}, 0.5, rows={"train": 100})
    many = on_split("many", "w2", {"train": "bbbbbbbbbb", "test": "t"}, 0.9, rows={"train": 1000})
    other_test = on_split("other", "w3", {"train": "bbbbbbbbbb", "test": "u"})
    with_recipes = [replace(run, recipe={"dataset": {"path": "d"}}) for run in (few, many, other_test)]
    comparison = compare_runs(with_recipes)
    sets = {row.run.run_id: row.run_set.name for row in comparison.rows}
    assert sets == {"few": "A", "many": "A", "other": "B"}
    assert comparison.keys == ("training set",)
    assert row_of(comparison, "few").differences == {"training set": "100 rows (aaaaaaaa)"}
    sampled = [replace(run, recipe={"dataset": {"max_train_samples": n}}) for n, run in enumerate((few, many), 1)]
    assert compare_runs(sampled).keys == ("dataset.max_train_samples",)


def test_compare_knows_the_rows_of_an_older_record_by_the_data_as_a_whole():
    older = make_run("older", dataset={"path": "d", "fingerprint": "w1"})
    strange = make_run("strange", dataset={"path": "d", "fingerprint": "w9"})
    newer = on_split("newer", "w1", {"train": "a", "test": "t"})
    fewer = on_split("fewer", "w2", {"train": "b", "test": "t"})
    sets = {row.run.run_id: row.run_set.name for row in compare_runs([older, strange, newer, fewer]).rows}
    assert sets["older"] == sets["newer"] == sets["fewer"] != sets["strange"]


def test_compare_gives_marginal_grams_per_point_of_score_gained():
    ours, base = make_run("a", 0.9, kwh={"gpu": 3.0}), make_run("b", 0.7, kwh={"gpu": 1.0})
    # 2 kWh more at 100 g/kWh for 20 points; on the French grid at 56 g/kWh.
    assert row_of(compare_runs([ours, base]), "a").delta.marginal_g_per_point == pytest.approx(200 / 20)
    assert row_of(compare_runs([ours, base], grid=FRANCE), "a").delta.marginal_g_per_point == pytest.approx(112 / 20)
    noisy = make_run("a", 0.71, kwh={"gpu": 3.0})
    assert row_of(compare_runs([noisy, base], baseline=base), "a").delta.marginal_g_per_point is None
    assert row_of(compare_runs([ours, base], baseline=ours), "b").delta.marginal_g_per_point is None


def test_compare_prices_a_point_with_the_energy_that_it_ranks():
    place = {"g_per_kwh": 100.0, "scope": "life-cycle"}

    def with_baselines(kwh, baseline_kwh):
        section = make_emissions({"gpu": kwh}, pue=1.5, carbon_intensity=place)
        return {**section, "energy_kwh": kwh + baseline_kwh, "emissions_g": (kwh + baseline_kwh) * 150}

    ours = make_run("a", 0.9, emissions=with_baselines(3.0, 5.0))
    base = make_run("b", 0.7, emissions=with_baselines(1.0, 0.0))
    delta = row_of(compare_runs([ours, base]), "a").delta
    # 2 kWh more of train, evaluate and save, at PUE 1.5 and 100 g/kWh, for 20 points; the baselines are in the total.
    assert delta.marginal_g_per_point == pytest.approx(2 * 1.5 * 100 / 20)
    assert delta.emissions_g == pytest.approx(7 * 150)
    assert row_of(compare_runs([ours, base], grid=FRANCE), "a").delta.marginal_g_per_point == pytest.approx(112 / 20)


def test_compare_steps_along_the_front_say_where_it_is_not_shown_which_one_is_cheaper():
    dear, mid = make_run("dear", 0.9, kwh={"gpu": 9.0}), make_run("mid", 0.8, kwh={"gpu": 1.1})
    elsewhere = make_run("elsewhere", 0.7, kwh={"gpu": 1.0}, machine="boot-2")
    text = comparison_text(compare_runs([dear, mid, elsewhere]), 200)
    assert "dear: 79.0 g CO2e for each point more than mid, the next cheaper on the front\n" in text
    assert (
        "more than elsewhere, the next cheaper on the front (by its reading; which one is cheaper is undecided)" in text
    )


def test_compare_takes_no_difference_of_grams_from_two_grids():
    other = make_emissions({"gpu": 1.0}, carbon_intensity={"g_per_kwh": 500.0, "scope": "life-cycle"})
    ours, theirs = make_run("a", 0.9, emissions=other), make_run("b", 0.5)
    comparison = compare_runs([ours, theirs])
    assert row_of(comparison, "a").delta.emissions_g is None
    assert any("--grid" in note for note in comparison.notes)
    assert row_of(compare_runs([ours, theirs], grid=FRANCE), "a").delta.emissions_g is not None


def test_compare_on_one_grid_equal_energy_gives_equal_grams():
    pue = make_emissions({"gpu": 1.0}, pue=1.5, emissions_g=900.0, carbon_intensity={"g_per_kwh": 600.0})
    comparison = compare_runs([make_run("a", emissions=pue), make_run("b", kwh={"gpu": 1.0})], grid=FRANCE)
    assert [row.emissions_g_on_grid for row in comparison.rows] == [56.0, 56.0]
    assert any("not new evidence" in note for note in comparison.notes)


def test_compare_by_another_metric_and_split():
    def with_metrics(run_id, accuracy, f1):
        scores = {"accuracy": {"value": accuracy}, "f1_macro": {"value": f1}}
        return make_run(run_id, accuracy, metrics={"validation": scores})

    runs = [with_metrics("a", 0.9, 0.1), with_metrics("b", 0.8, 0.7)]
    for metric in ("f1_macro", "validation.f1_macro"):
        assert [row.run.run_id for row in compare_runs(runs, metric).rows] == ["b", "a"]
    with pytest.raises(FinetuneError, match="did you mean f1_macro"):
        compare_runs(runs, "f1_makro")
    with pytest.raises(FinetuneError, match=r"test\.f1_macro: none of these"):
        compare_runs(runs, "test.f1_macro")


@pytest.mark.parametrize("sort", ["energy_kwh", "duration_s", "name", "training.learning_rate", "ranked_energy_kwh"])
def test_compare_sorts_by_any_column_with_missing_values_last(sort):
    def run_of(name, kwh, rate):
        emissions = make_emissions({"gpu": kwh}, duration_s=kwh * 100)
        return make_run(name, 0.5, emissions=emissions, recipe={"training": {"learning_rate": rate}})

    runs = [run_of("c", 3.0, None), run_of("a", 1.0, 1e-5), run_of("b", 2.0, 3e-5)]
    assert [row.run.run_id for row in compare_runs(runs, sort=sort).rows] == ["a", "b", "c"]


def test_compare_names_the_column_that_was_meant():
    with pytest.raises(FinetuneError, match="did you mean energy_kwh"):
        compare_runs([make_run()], sort="energy_kw")


def test_compare_the_default_baseline_of_two_runs_is_the_lower_scored_one():
    comparison = compare_runs([make_run("a", 0.9), make_run("b", 0.5)])
    assert comparison.baseline.run_id == "b"
    assert compare_runs([make_run("a"), make_run("b"), make_run("c")]).baseline is None


def test_compare_takes_in_a_baseline_that_was_not_named_and_no_run_twice():
    a, b, base = make_run("a"), make_run("b"), make_run("base", 0.1)
    comparison = compare_runs([a, a, b], baseline=base)
    assert sorted(row.run.run_id for row in comparison.rows) == ["a", "b", "base"]
    assert row_of(comparison, "base").delta is None


scores = st.sampled_from([0.2, 0.5, 0.52, 0.9, None])
energies = st.sampled_from([0.001, 0.00103, 0.002, 0.01, None])


@settings(max_examples=60, deadline=None)
@given(
    cells=st.lists(st.tuples(scores, energies, st.sampled_from(["boot-1", "boot-2"])), min_size=1, max_size=7),
    seed=st.integers(),
)
def test_compare_is_free_of_order_and_its_front_is_right(cells, seed):
    runs = []
    for number, (score, kwh, machine) in enumerate(cells):
        run = make_run(
            f"r{number}", score or 0.5, emissions={} if kwh is None else make_emissions({"gpu": kwh}, machine)
        )
        runs.append(run if score is not None else replace(run, main_metric={}, metrics={}))
    shuffled = random.Random(seed).sample(runs, len(runs))
    comparison = compare_runs(runs)
    assert comparison_to_json(comparison) == comparison_to_json(compare_runs(shuffled))
    for row, (score, kwh, machine) in ((row_of(comparison, f"r{n}"), cell) for n, cell in enumerate(cells)):
        spread = {True: 1.05, False: 1.05 * 1.1 / 0.9}
        beaten = (
            score is not None
            and kwh is not None
            and any(
                # Intervals are ±0.02 each: scores are distinguished when more than 0.0283 apart.
                None not in (other_score, other_kwh)
                and other_score - score > 0.0283
                and other_kwh / kwh * spread[other_machine == machine] < 1
                for other_score, other_kwh, other_machine in cells
            )
        )
        assert row.on_front == (score is not None and kwh is not None and not beaten)


NUMBERS = st.one_of(st.none(), st.just(math.nan), st.just(math.inf), st.just("many"), st.floats(0.0, 1.0))


@settings(max_examples=40, deadline=None, phases=[phase for phase in Phase if phase is not Phase.shrink])
@given(
    cells=st.lists(st.tuples(NUMBERS, NUMBERS, NUMBERS, NUMBERS, st.integers(1, 2)), min_size=1, max_size=6),
    order=st.randoms(),
)
def test_compare_takes_any_number_for_what_it_is_and_ranks_nothing_that_is_not_one(cells, order):
    runs = []
    for number, (score, low, kwh, total, seed) in enumerate(cells):
        main = {"name": "accuracy", "value": score, "low": low, "high": low, "n": 500, "split": "test"}
        emissions = make_emissions({"gpu": 0.5}, energy_kwh=total)
        emissions["phases"]["train"]["components"]["gpu"] = kwh
        recipe = {"training": {"seed": seed}, "name": f"r{number}"}
        runs.append(make_run(f"r{number}", main_metric=main, metrics={}, emissions=emissions, recipe=recipe))
    shuffled = list(runs)
    order.shuffle(shuffled)
    comparison = compare_runs(runs, sort="energy_kwh")
    assert comparison_to_json(comparison) == comparison_to_json(compare_runs(shuffled, sort="energy_kwh"))
    json.dumps(comparison_to_json(comparison), allow_nan=False)
    for text in (comparison_text(comparison, 100), comparison_markdown(comparison)):
        assert not re.search(r"\b(nan|inf)\b", text)
    for run_set in {row.run_set for row in comparison.rows}:
        rows = [row for row in comparison.rows if row.run_set == run_set]
        keys = [(bool(row.not_ranked), kwh is None, kwh or 0.0) for row in rows for kwh in [row.run.energy_kwh()]]
        assert keys == sorted(keys)  # what is not ranked comes last, and within either what is not known
    for row in comparison.rows:
        if row.ranked_kwh is None or row.run.energy_kwh() is None:
            assert row.not_ranked
            assert not row.on_front
        if row.score is None:
            assert not row.on_front
    unranked = {row.run.run_id for row in comparison.rows if row.not_ranked}
    for line in (*comparison.rows, *comparison.groups):
        assert line.next_cheaper not in unranked
        assert line.dominated_by not in unranked


def test_compare_differences_are_antisymmetric():
    a, b = make_run("a", 0.9, kwh={"gpu": 3.0, "ram": 1.0}), make_run("b", 0.7, kwh={"gpu": 1.0, "ram": 1.0})
    forth = row_of(compare_runs([a, b], baseline=b), "a").delta
    back = row_of(compare_runs([a, b], baseline=a), "b").delta
    assert (forth.score.value, forth.score.low, forth.score.high) == pytest.approx(
        (-back.score.value, -back.score.high, -back.score.low)
    )
    assert (forth.energy.low, forth.energy.high) == pytest.approx((1 / back.energy.high, 1 / back.energy.low))
    assert forth.emissions_g == -back.emissions_g


def test_compare_stored_runs_that_did_not_finish_are_shown_last_and_not_ranked():
    comparison = compare_runs(list_runs(STORED)[0])
    assert [row.run.status for row in comparison.rows[-2:]] == ["failed", "interrupted"]
    assert not any(row.on_front for row in comparison.rows[-2:])


def test_compare_a_thousand_runs_without_trying_every_pair():
    generator = random.Random(0)
    runs = [make_run(f"r{n:04}", generator.random(), kwh={"gpu": generator.uniform(1, 9)}) for n in range(1000)]
    comparison = compare_runs(runs)
    on_front = [row for row in comparison.rows if row.on_front]
    assert len(comparison.rows) == 1000
    assert 0 < len(on_front) < 200
    best = max(runs, key=lambda run: run.main_score().value)
    assert best.run_id in {row.run.run_id for row in on_front}
