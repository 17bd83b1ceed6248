import pytest

from finetune.errors import FinetuneError
from finetune.runs.conditions import check_run, outcome_line, parse_condition, value_of
from finetune.runs.record import read_run
from tests.runs.builders import QUICKSTART, STORED, make_emissions, make_run


def holds(run, text):
    return [outcome.holds for outcome in check_run(run, [parse_condition(text)])]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("accuracy>=0.8", True), ("accuracy>0.8", False), ("accuracy == 0.8", True), (" accuracy <= 0.8 ", True),
        ("accuracy<.8", False), ("emissions_g<=3e-1", True), ("energy_kwh>0.1", False), ("duration_s<+601", True),
        ("test.accuracy>=0.8", True), ("score>=0.8", True), ("phases.train.energy_kwh<1", True),
    ],
)  # fmt: skip
def test_conditions_hold_or_do_not(text, expected):
    assert holds(make_run(), text) == [expected]


@pytest.mark.parametrize(
    "text",
    ["", "accuracy", "accuracy=0.9", "accuracy=>0.9", ">=0.9", "accuracy>=", "accuracy>=x", "a>=1>=2", "accuracy>=nan"],
)
def test_conditions_that_are_none_are_refused(text):
    with pytest.raises(ValueError, match="is no condition"):
        parse_condition(text)


def test_conditions_take_the_test_split_before_validation():
    run = read_run(QUICKSTART)
    assert value_of(run, "accuracy") == 0.95
    assert value_of(run, "validation.accuracy") == 0.958333


def test_conditions_on_what_was_not_measured_fail():
    run = make_run(emissions={"energy_kwh": None, "emissions_g": None})
    for text in ("emissions_g<=50", "emissions_g>=0", "wh_per_1000_predictions<1"):
        (outcome,) = check_run(run, [parse_condition(text)])
        assert not outcome.holds
        assert outcome_line(outcome).endswith("not measured")


def test_conditions_a_lower_bound_proves_no_upper_limit():
    run = make_run(emissions=make_emissions({"gpu": 1.0}, complete=False))
    assert holds(run, "energy_kwh<=50") == [False]
    assert holds(run, "energy_kwh>=0.5") == [True]
    assert holds(run, "energy_kwh>=2") == [False]


def test_conditions_a_run_that_did_not_finish_fails_whatever_they_are():
    failed = read_run(STORED / "banking77-20260902T080000Z-0f0f0f")
    outcomes = check_run(failed, [parse_condition("emissions_g<=50"), parse_condition("accuracy>=0.9")])
    assert [outcome.holds for outcome in outcomes] == [False, True, False]
    assert "out of memory" in outcome_line(outcomes[0])


@pytest.mark.parametrize(
    ("name", "near"), [("emisions_g", "emissions_g"), ("acuracy", "accuracy"), ("train_los", "train_loss")]
)
def test_conditions_name_what_was_meant(name, near):
    with pytest.raises(FinetuneError, match=f"did you mean {near}"):
        value_of(read_run(QUICKSTART), name)


@pytest.mark.parametrize("name", ["accuracy", "test.accuracy", "validation.accuracy"])
def test_conditions_a_metric_without_a_value_fails_and_is_no_spelling_error(name):
    run = make_run(metrics={"test": {"accuracy": {"value": None}}}, main_metric={})
    (outcome,) = check_run(run, [parse_condition(f"{name}>=0.9")])
    assert (outcome.value, outcome.holds) == (None, False)
    assert outcome_line(outcome).endswith("not measured")
