"""The arithmetic of an estimate, against sums written out."""

import pytest

from finetune.emissions.forecast import Rate
from finetune.estimate.costs import (
    Cost,
    band_factors,
    cost,
    measured_rates,
    phase_costs,
    seen_costs,
    total,
    warm_up_cost,
)
from tests.estimate.conftest import emissions, found, measured

RATE = Rate(joules=2.0, low=1.0, high=5.0, seconds=0.1)


def test_cost_has_the_range_of_its_rate_in_time_too():
    assert cost(10, RATE) == Cost(20, 10, 50, pytest.approx(1.0), pytest.approx(0.5), pytest.approx(2.5))


def test_cost_of_what_draws_nothing_that_is_measured_still_takes_time():
    known = cost(10, Rate(0.0, 0.0, 0.0, 0.1))
    assert (known.joules, known.joules_high) == (0, 0)
    assert (known.seconds_low, known.seconds, known.seconds_high) == pytest.approx((0.7, 1.0, 1.3))


def test_total_adds_lows_and_highs_as_they_are():
    assert total([Cost(1, 0, 2, 3, 2, 4), Cost(10, 5, 20, 30, 20, 40)]) == Cost(11, 5, 22, 33, 22, 44)
    assert total([]) == Cost()


def test_phase_costs_multiply_each_kind_of_work_with_its_own_rate():
    rates = measured_rates(measured())
    costs = phase_costs(found()["work"]["phases"], rates)
    assert costs["train"].joules == pytest.approx(1000 * 3.6)
    assert costs["train"].seconds == pytest.approx(1000 * 0.1)
    assert costs["evaluate"].joules == pytest.approx(400 * 1.2)
    assert costs["save"].joules == pytest.approx(10.0)


def test_phase_costs_end_the_measurement_of_an_answer_after_half_a_minute():
    rates = {"evaluate": RATE, "record": RATE}
    short, long = (phase_costs({"other": {"evaluate": tokens}}, rates)["other"] for tokens in (100, 3000))
    assert short.seconds == pytest.approx(10.0)
    assert (long.seconds, long.joules) == (30.0, pytest.approx(600.0))
    assert long.joules_low < long.joules < long.joules_high


def test_measured_rates_tell_the_frozen_part_from_the_rest():
    blocks = measured()["blocks"] | {"record": [{"units": 10.0, "joules": 50.0, "seconds": 2.0}]}
    rates = measured_rates(measured(blocks=blocks))
    assert rates["record"].joules == pytest.approx(5.0)
    assert rates["evaluate"].joules == pytest.approx(1.2)
    assert measured_rates(measured())["record"] == measured_rates(measured())["evaluate"]


def test_measured_rates_without_a_save_take_the_time_of_a_plain_disk():
    blocks = measured()["blocks"] | {"save": []}
    rate = measured_rates(measured(blocks=blocks))["save"]
    assert rate.seconds == pytest.approx(1e-8)
    assert rate.joules == pytest.approx(36 * 1e-8)


def test_the_warm_up_counts_only_what_it_took_beyond_the_usual():
    rates = measured_rates(measured())
    extra = warm_up_cost(measured(), rates)
    assert extra.joules == pytest.approx(108 - 20 * 3.6)
    assert extra.seconds == pytest.approx(3 - 2)
    assert extra.joules_low == extra.seconds_low == 0
    cheap = measured(warm_up={"units": 20.0, "joules": 1.0, "seconds": 0.1})
    assert warm_up_cost(cheap, rates) == Cost()


def test_seen_costs_are_those_of_the_phases_before_training():
    costs = seen_costs(emissions())
    assert set(costs) == {"load", "preprocess"}
    assert costs["load"].joules == pytest.approx(360)
    assert costs["load"].joules_low < 360 < costs["load"].joules_high


def test_band_factors_weigh_the_components_by_their_energy():
    low, high = band_factors(emissions(), ["train"])
    assert (low, high) == (pytest.approx((0.5 + 0.3) / 2), pytest.approx(2.0))


def test_band_factors_are_open_above_when_a_component_is_not_read():
    low, high = band_factors(emissions(complete=False), ["train"])
    assert low == pytest.approx(0.4)
    assert high is None
