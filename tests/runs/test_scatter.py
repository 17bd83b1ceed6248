import pytest

from finetune.runs.compare import compare_runs
from finetune.runs.scatter import DOMINATED, FRONT, NOT_RANKED, UNDECIDED, axis_words, front_line, mark_words, scatters
from tests.runs.builders import make_emissions, make_run, seeded


def kinds(*runs):
    [scatter] = scatters(compare_runs(runs))
    return {mark.key: mark.kind for mark in scatter.marks}


def test_scatter_tells_front_undecided_dominated_and_not_ranked_apart():
    shared = make_run("shared", 0.99, emissions=make_emissions({"cpu": 0.0001}, shared_with=["x"]))
    runs = [
        make_run("best", 0.90, kwh={"gpu": 0.010}),
        make_run("a-little-worse", 0.89, kwh={"gpu": 0.0101}),
        make_run("far-behind", 0.50, kwh={"gpu": 0.020}),
        make_run("cheap", 0.60, kwh={"gpu": 0.001}),
        shared,
    ]
    assert kinds(*runs) == {
        "best": FRONT,
        "a-little-worse": UNDECIDED,
        "far-behind": DOMINATED,
        "cheap": FRONT,
        "shared": NOT_RANKED,
    }


def test_scatter_front_leads_to_lower_scores_when_lower_is_better():
    def run(name, value, kwh):
        main = {"name": "rmse", "value": value, "low": value - 0.01, "high": value + 0.01, "n": 50, "split": "test",
                "greater_is_better": False}  # fmt: skip
        return make_run(name, kwh={"gpu": kwh}, main_metric=main, metrics={})

    [scatter] = scatters(compare_runs([run("cheap", 0.9, 0.001), run("good", 0.3, 0.1), run("bad", 0.95, 0.2)]))
    assert [mark.key for mark in front_line(scatter)] == ["cheap", "good"]


def test_scatter_bands_are_those_of_the_ranked_energy():
    [scatter] = scatters(compare_runs([make_run("a", kwh={"cpu": 0.002, "gpu": 0.010})]))
    [mark] = scatter.marks
    assert mark.kwh == pytest.approx(0.012)
    assert mark.kwh_low == pytest.approx(0.002 * 0.5 + 0.010 * 0.9)
    assert mark.kwh_high == pytest.approx(0.002 * 2.0 + 0.010 * 1.1)
    assert "12.0 Wh" in mark_words(mark)


def test_scatter_energy_with_hardware_unread_has_no_upper_end():
    emissions = make_emissions({"cpu": 0.002}, complete=False, energy_kwh_high=None)
    [scatter] = scatters(compare_runs([make_run("a"), make_run("b", emissions=emissions)]))
    [open_mark] = [mark for mark in scatter.marks if mark.key == "b"]
    assert (open_mark.kwh_high, open_mark.kind) == (None, NOT_RANKED)
    assert "at least" in mark_words(open_mark)


def test_scatter_names_runs_without_a_place_and_why():
    unread = make_run("unread", emissions={"duration_s": 3.0})
    [scatter] = scatters(compare_runs([make_run("a"), unread]))
    assert [mark.key for mark in scatter.marks] == ["a"]
    assert scatter.outside == (("unread", "energy not measured"),)


def test_scatter_has_one_plot_a_set_and_none_without_energy():
    other = make_run("other", dataset={"path": "b.csv", "fingerprint": "f2"})
    assert [len(scatter.marks) for scatter in scatters(compare_runs([make_run("a"), make_run("b"), other]))] == [2, 1]
    assert scatters(compare_runs([make_run("a", emissions={})])) == ()


def test_scatter_of_groups_has_a_point_for_each_with_mean_interval_and_band():
    good = seeded("good", (0.90, 0.92, 0.91), (0.010, 0.011, 0.012))
    poor = seeded("poor", (0.50, 0.51, 0.49), 0.02, rate=5e-4)
    cheap = seeded("cheap", (0.70,), 0.001, rate=9e-4, seeds=(1,))
    [scatter] = scatters(compare_runs([*good, *poor, *cheap]))
    assert [(mark.label, mark.kind) for mark in scatter.marks] == [
        ("cheap", FRONT),
        ("good", FRONT),
        ("poor", DOMINATED),
    ]
    single, mean, _ = scatter.marks
    assert (mean.score, mean.score_high - mean.score) == pytest.approx((0.91, 4.302653 * 0.01 / 3**0.5))
    assert (mean.kwh, mean.kwh_low, mean.kwh_high) == pytest.approx((0.011, 0.011 * 0.9, 0.011 * 1.1))
    assert (single.score_low, single.score_high) == (None, None)  # of one seed the noise is unknown
    assert mark_words(mean).startswith("good: mean score of 3 seeds 0.910 [0.885 to 0.935], 11.0 Wh (band 9.90–12.1) a")
    assert axis_words(scatter)[1] == "accuracy on test, mean ± 95 %"
    assert scatter.kinds[FRONT] == "no group is shown to score higher with less energy"
    alone = scatters(compare_runs([*good, *poor, *cheap], group_by="none"))[0]
    assert len(alone.marks) == 7


def test_scatter_of_groups_ranks_none_with_a_run_that_is_not_and_names_what_is_in_no_group():
    good = seeded("good", (0.90, 0.92, 0.91), 0.01)
    shared = seeded("shared", (0.90, 0.92), 0.001, rate=5e-4)
    shared[0].emissions["shared_with"] = ["x"]
    unread = seeded("unread", (0.8, 0.81), 0.001, rate=7e-4)
    unread[1].emissions.clear()
    cut = make_run("cut", 0.8, status="failed", recipe={"training": {"seed": 9}})
    [scatter] = scatters(compare_runs([*good, *shared, *unread, cut]))
    assert [(mark.label, mark.kind) for mark in scatter.marks] == [("shared", NOT_RANKED), ("good", FRONT)]
    assert scatter.outside == (("unread", "energy not measured"), ("cut", "failed: not a whole run"))
