from dataclasses import replace

import pytest

from finetune.errors import FinetuneError
from finetune.runs.compare import compare_runs
from finetune.runs.compare_report import target_lines
from finetune.runs.comparison import comparison_to_json
from finetune.runs.target import Target, energy_to_target, parse_target, target_text
from tests.runs.builders import make_run


def run_with(scores, metric="accuracy", kwh=True):
    """Return a run evaluated after each 0.1 kWh, 10 g and 60 s."""
    return make_run(
        timeline=tuple(
            {
                "step": 10 * number,
                "epoch": float(number),
                "energy_kwh": 0.1 * number if kwh else None,
                "emissions_g": 10.0 * number if kwh else None,
                "elapsed_s": 60.0 * number,
                "metrics": {metric: {"value": score} if number % 2 else score},  # both forms are in records
            }
            for number, score in enumerate(scores, start=1)
        )
    )


@pytest.mark.parametrize(
    ("scores", "place", "confirmed"),
    [
        ([0.5, 0.8, 0.9], 2, True),  # at the target counts
        ([0.9, 0.9, 0.9], 1, True),
        ([0.5, 0.9, 0.7, 0.85, 0.81], 4, True),  # the first one was luck
        ([0.5, 0.6, 0.9], 3, False),  # nothing after it
        ([0.9], 1, False),
        ([0.9, 0.7, 0.9], 3, False),
        ([0.9, None, 0.9], 3, False),
        ([0.5, 0.9, 0.7], None, False),
        ([0.5, 0.6], None, False),
    ],
)
def test_target_is_the_first_evaluation_that_the_next_one_confirms(scores, place, confirmed):
    reached = energy_to_target(run_with(scores), Target("accuracy", 0.8))
    if place is None:
        assert reached is None
        return
    assert (reached.step, reached.is_confirmed, reached.score) == (10 * place, confirmed, scores[place - 1])
    assert reached.energy_kwh == pytest.approx((0.1 * (place - 1), 0.1 * place))
    assert reached.emissions_g == pytest.approx((10 * (place - 1), 10 * place))
    assert reached.elapsed_s == pytest.approx((60 * (place - 1), 60 * place))


def test_target_of_a_loss_is_reached_from_above():
    reached = energy_to_target(run_with([0.9, 0.5, 0.4, 0.6], "loss"), Target("loss", 0.5))
    assert (reached.step, reached.is_confirmed) == (20, True)


def test_target_without_a_reading_is_reached_all_the_same():
    run = run_with([0.5, 0.9, 0.9], kwh=False)
    reached = energy_to_target(run, Target("accuracy", 0.8))
    assert (reached.energy_kwh, reached.emissions_g) == (None, None)
    assert reached.elapsed_s == (60.0, 120.0)
    assert "not measured" in target_text(run, Target("accuracy", 0.8))


def test_target_text_says_the_interval_or_how_near_it_came():
    run = run_with([0.5, 0.9, 0.85])
    assert target_text(run, Target("accuracy", 0.8)) == (
        "accuracy 0.8 was reached at step 20, accuracy 0.900; the next evaluation confirms it.\n"
        "Energy until then: more than 100 and at most 200 Wh; 10.0–20.0 g CO2e (the evaluation before, and this one)."
    )
    assert target_text(run, Target("accuracy", 0.95)) == (
        "accuracy 0.95 was not reached in 3 evaluations; the best was 0.900."
    )
    assert "no later evaluation confirms it" in target_text(run_with([0.9]), Target("accuracy", 0.8))


def test_target_text_says_nothing_of_at_most_for_a_lower_bound_and_names_who_shared_the_machine():
    def text_of(**fields):
        run = run_with([0.5, 0.9, 0.9])
        return target_text(replace(run, emissions={**run.emissions, **fields}), Target("accuracy", 0.8))

    bound = text_of(complete=False)
    assert "more than 100 Wh; how much at most is not known, part of the hardware gave no reading" in bound
    assert "g CO2e" not in bound
    assert "at most 200 Wh, of this run and other, which used the machine" in text_of(shared_with=["other"])
    assert "nobody could look whether other runs used the machine" in text_of(shared_with=None)


def test_target_of_a_comparison_flags_bounds_and_shared_machines():
    run = run_with([0.5, 0.9, 0.9])
    bound = replace(run, run_id="bound", name="bound", emissions={**run.emissions, "complete": False})
    shared = replace(run, run_id="shared", name="shared", emissions={**run.emissions, "shared_with": ["other"]})
    comparison = compare_runs([bound, shared], target=Target("accuracy", 0.8))
    lines = dict(line.split(": ", 1) for line in target_lines(comparison))
    assert lines["bound"].endswith("after more than 100 Wh; how much at most is not known, part of the hardware gave "
                                   "no reading")  # fmt: skip
    assert lines["shared"].endswith("at most 200 Wh, of this run and other, which used the machine at the same time")
    found = {run["run_id"]: run["target"] for run in comparison_to_json(comparison)["runs"]}
    assert (found["bound"]["energy_kwh_at_most"], found["shared"]["shared_with"]) == (None, ["other"])


def test_target_refuses_what_the_evaluations_do_not_have():
    with pytest.raises(FinetuneError, match="did you mean accuracy"):
        energy_to_target(run_with([0.5]), Target("acuracy", 0.8))
    with pytest.raises(FinetuneError, match="no timeline"):
        energy_to_target(make_run(), Target("accuracy", 0.8))


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("accuracy=0.8", Target("accuracy", 0.8)),
        (" f1_macro = .75 ", Target("f1_macro", 0.75)),
        ("loss=1e-2", Target("loss", 0.01)),
        ("accuracy", None),
        ("accuracy>=0.8", None),
        ("accuracy=high", None),
        ("=0.8", None),
        ("", None),
    ],
)
def test_target_is_read_from_metric_and_number(text, target):
    if target is None:
        with pytest.raises(ValueError, match="no target"):
            parse_target(text)
    else:
        assert parse_target(text) == target
