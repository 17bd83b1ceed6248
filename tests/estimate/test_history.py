"""Which past runs tell what a token costs, and what they tell."""

import pytest

from finetune.emissions.forecast import Rate
from finetune.estimate.assumed import assumed_rates, train_operations
from finetune.estimate.history import past_rates
from finetune.runs.record import Run
from tests.estimate.conftest import emissions, found

RECIPE = {"model": {"freeze": "none"}, "training": {"optim": "adamw_torch_fused", "num_train_epochs": 3}, "peft": None}


def past(run_id="r1", wh_a_1000_tokens=2.0, model=None, recipe=None, hardware=None, **changes):
    """Return a run that trained on 10,000 tokens without padding in 50 s."""
    kwh = wh_a_1000_tokens * 10 / 1000
    section = emissions(shared_with=[], repeated_work_kwh=0.0)
    section["phases"] = {"train": {"energy_kwh": kwh, "duration_s": 50.0, "components": {}}}
    return Run(
        run_id=run_id,
        name="past",
        status=changes.pop("status", "completed"),
        model=model or found()["model"],
        recipe=recipe or RECIPE,
        hardware=hardware or found()["hardware"],
        training={"train_tokens_per_second": 250.0, "train_runtime_s": 40.0},
        emissions={**section, **changes},
    )


def test_a_past_run_of_the_same_model_tells_the_cost_of_a_padded_token():
    known = past_rates([past()], found(), RECIPE)
    # 2 Wh for 1,000 tokens of text; nine tenths of a padded batch are text.
    assert known.rates["train"].joules == pytest.approx(2 * 3.6 * 0.9)
    assert known.rates["train"].seconds == pytest.approx(50 / 10_000 * 0.9)
    assert known.rates["evaluate"].joules == pytest.approx(2 * 3.6 / 3)
    assert (known.run_ids, known.is_same_model) == (("r1",), True)


def test_past_runs_are_averaged_and_their_spread_is_the_range():
    runs = [past("a", 1.0), past("b", 3.0)]
    rate = past_rates(runs, found(), RECIPE).rates["train"]
    assert rate.joules == pytest.approx(2 * 3.6 * 0.9)
    assert rate.low < 1 * 3.6 * 0.9
    assert rate.high > 3 * 3.6 * 0.9


def test_a_past_run_of_another_model_is_scaled_by_operations_and_less_sure():
    larger = found()["model"] | {"parameters": 4_000_000, "trainable_parameters": 4_000_000}
    same, other = past_rates([past()], found(), RECIPE), past_rates([past(model=larger)], found(), RECIPE)
    assert other.rates["train"].joules == pytest.approx(same.rates["train"].joules / 4)
    assert (
        other.rates["train"].high / other.rates["train"].joules > same.rates["train"].high / same.rates["train"].joules
    )
    assert not other.is_same_model
    assert past_rates([past("big", model=larger), past("own")], found(), RECIPE).run_ids == ("own",)


@pytest.mark.parametrize(
    "changes",
    [
        {"status": "interrupted"},
        {"complete": False},
        {"shared_with": ["another"]},
        {"shared_with": None},
        {"repeated_work_kwh": 0.1},
        {"tool": {"name": "codecarbon", "version": "4"}},
        {"hardware": found()["hardware"] | {"threads": 8}},
        {"components": {"cpu": {"method": "measured", "detail": "RAPL package counter"}}},
        {"model": found()["model"] | {"kind": "decoder-only"}},
        {"recipe": RECIPE | {"model": {"freeze": "backbone"}}},
        {"recipe": RECIPE | {"peft": {"method": "lora"}}},
        {"phases": {"train": {"energy_kwh": None, "duration_s": 50.0}}},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_a_past_run_that_does_not_compare_is_left_out(changes):
    assert past_rates([past(**changes)], found(), RECIPE) is None
    assert past_rates([past("bad", **changes), past("good")], found(), RECIPE).run_ids == ("good",)


def test_a_frozen_part_is_told_only_by_runs_of_as_many_epochs():
    frozen = RECIPE | {"model": {"freeze": "backbone"}}
    longer = frozen | {"training": RECIPE["training"] | {"num_train_epochs": 9}}
    assert past_rates([past(recipe=frozen)], found(), frozen).run_ids == ("r1",)
    assert past_rates([past(recipe=longer)], found(), frozen) is None


def test_a_recorded_frozen_part_costs_what_it_cost_in_a_past_run():
    frozen, model = RECIPE | {"model": {"freeze": "backbone"}}, found()["model"] | {"trainable_parameters": 1_000}
    planned = found(model=model)
    planned["work"]["phases"]["train"] = {"train": 10_000 / 0.9, "record": 10_000 / 3}  # three epochs of as many rows
    rates = past_rates([past(model=model, recipe=frozen)], planned, frozen).rates
    used = 2 * 10 * 3.6  # 2 Wh for each of 10 thousand tokens, in kJ
    again = (rates["train"].joules * 10_000 / 0.9 + rates["record"].joules * 10_000 / 3) / 1000
    assert again == pytest.approx(used, rel=0.01)
    assert rates["evaluate"].joules == pytest.approx(rates["record"].joules / 1000)  # the head alone
    # Where the frozen part runs in every step, an evaluation costs about a third of a full step and no more.
    planned["work"]["phases"]["train"] = {"train": 10_000 / 0.9}
    rates = past_rates([past(model=model, recipe=frozen)], planned, frozen).rates
    assert rates["evaluate"].joules == pytest.approx(2 * 3.6, rel=0.01)


def test_only_the_newest_runs_count():
    runs = [past(f"r{number}") for number in range(15)]
    assert past_rates(runs, found(), RECIPE).run_ids == tuple(f"r{number}" for number in range(5, 15))


def test_operations_are_six_a_parameter_less_the_gradients_that_adapters_save():
    assert train_operations(100, 100, True) == 600
    assert train_operations(100, 20, True) == 120
    assert train_operations(100, 1, False) == 402


def test_assumed_rates_span_more_than_a_factor_of_ten():
    rates = assumed_rates(found())
    assert rates["train"].high / rates["train"].low > 10
    assert rates["train"].joules == pytest.approx(3 * rates["evaluate"].joules)
    # 3 million operations a token at 2 × 25 GFLOP/s; the machine drew 72 W while loading.
    assert rates["train"].seconds == pytest.approx(3e6 / 50e9)
    assert rates["train"].joules == pytest.approx(72 * 1.2 * 3e6 / 50e9)


def test_assumed_rates_on_a_gpu_add_its_power_and_without_a_reading_there_is_none():
    on_gpu = found(hardware=found()["hardware"] | {"device": "cuda", "mixed_precision": "bf16"})
    assert assumed_rates(on_gpu)["train"].joules == pytest.approx((72 + 250) * 3e6 / 50e12)
    silent = assumed_rates(found(emissions=emissions(energy_kwh=None)))["train"]
    assert silent == Rate(0.0, 0.0, 0.0, pytest.approx(3e6 / 50e9))
