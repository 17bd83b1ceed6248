import pytest

from finetune.runs.compare import compare_runs
from finetune.runs.page.charts import (
    CURVE_POINTS,
    LABELLED,
    NARROW,
    WIDE,
    curve_chart,
    learning_curve,
    pareto_chart,
    stacked_bar,
)
from finetune.runs.scatter import scatters
from tests.runs.builders import make_emissions, make_run


def chart_of(runs, frame=WIDE):
    [scatter] = scatters(compare_runs(runs))
    return pareto_chart(scatter, frame)


@pytest.mark.parametrize("frame", [WIDE, NARROW], ids=["wide", "narrow"])
def test_charts_pareto_lies_in_its_box_and_names_hide_nothing(frame):
    runs = [make_run(f"run-{n}", 0.5 + 0.03 * n, kwh={"gpu": 0.001 * (n + 1)}) for n in range(LABELLED)]
    chart = chart_of(runs, frame)
    box = chart["box"]
    for mark in chart["marks"]:
        assert box["left"] <= mark["low_x"] <= mark["x"] <= mark["high_x"] <= box["right"]
        assert box["top"] <= mark["high_y"] <= mark["y"] <= mark["low_y"] <= box["bottom"]
    words = [mark["words"] for mark in chart["marks"] if mark["words"]]
    assert len(words) >= 5
    for one in words:
        for other in chart["marks"]:
            beside = abs(other["x"] - one["x"]) > 6 or abs(other["y"] - one["y"]) > 3
            assert beside, "a name lies on a mark"


def test_charts_pareto_of_many_runs_names_the_front_only():
    runs = [make_run(f"bad-{n}", 0.3, kwh={"gpu": 1.0 + n}) for n in range(LABELLED)] + [make_run("good", 0.9)]
    chart = chart_of(runs)
    assert [mark["label"] for mark in chart["marks"] if mark["words"]] == ["good"]
    assert [mark["label"] for mark in chart["marks"] if mark["tab"]] == ["good"]


def test_charts_pareto_lower_bound_reaches_to_the_edge():
    emissions = make_emissions({"cpu": 0.002}, complete=False, energy_kwh_high=None)
    chart = chart_of([make_run("a"), make_run("b", emissions=emissions)])
    [mark] = [mark for mark in chart["marks"] if mark["is_bound"]]
    assert mark["high_x"] == chart["box"]["right"]


def test_charts_learning_curve_reads_both_forms_of_a_timeline():
    entries = [{"energy_kwh": 0.001, "metrics": {"accuracy": 0.4}},
               {"energy_kwh": 0.002, "metrics": {"accuracy": {"value": 0.6, "low": 0.5}}},
               {"energy_kwh": None, "metrics": {"accuracy": 0.7}}, {"energy_kwh": 0.004, "metrics": None}]  # fmt: skip
    curve = learning_curve(make_run("a", timeline=tuple(entries)), "a", "accuracy", 1)
    assert curve["points"] == [(0.001, 0.4), (0.002, 0.6)]
    assert learning_curve(make_run("a", timeline=tuple(entries[:1])), "a", "accuracy", 1) is None
    assert learning_curve(make_run("a", timeline=tuple(entries)), "a", "f1", 1) is None


def test_charts_learning_curve_of_many_evaluations_keeps_its_ends():
    entries = tuple({"energy_kwh": 0.001 * n, "metrics": {"accuracy": n / 1000}} for n in range(1, 1001))
    curve = learning_curve(make_run("a", timeline=entries), "a", "accuracy", 1)
    assert len(curve["points"]) == CURVE_POINTS
    assert (curve["points"][0][1], curve["points"][-1][1]) == (0.001, 1.0)
    assert curve_chart([curve], "accuracy", WIDE)["curves"][0]["path"].count(" ") == CURVE_POINTS - 1


def test_charts_stacked_bar_is_in_thousandths_and_leaves_out_what_was_not_measured():
    bar = stacked_bar({"cpu": 0.25, "gpu": None, "ram": 0.5}, 1.0, ("cpu", "gpu", "ram"))
    assert [(part["name"], part["x"], part["width"], part["colour"]) for part in bar] == [
        ("cpu", 0.0, 250.0, 1),
        ("ram", 250.0, 500.0, 3),
    ]
