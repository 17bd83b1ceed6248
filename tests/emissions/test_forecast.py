"""The arithmetic of forecasts, against formulas written out and against simulated runs."""

import math
import random
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune.emissions.forecast import (
    KINDS,
    Block,
    Rate,
    Spent,
    Work,
    complete_rates,
    cost_kwh,
    forecast,
    forward_rate,
    inference_tokens,
    rate_of,
)

amounts = st.floats(1e-3, 1e6)
blocks = st.lists(st.builds(Block, amounts, amounts, amounts), min_size=1, max_size=40)


def test_a_rate_is_the_ratio_of_the_sums_not_the_mean_of_the_ratios():
    found = rate_of([Block(100, 50, 2.0), Block(300, 250, 6.0)])
    assert found.joules == pytest.approx(300 / 400)
    assert found.seconds == pytest.approx(8 / 400)


def test_a_rate_leaves_out_the_cheapest_and_the_dearest_tenth():
    usual = [Block(10, 20, 1)] * 18
    assert rate_of([Block(10, 2000, 1), *usual, Block(10, 0.1, 1)]).joules == pytest.approx(2.0)
    assert rate_of([]) is None
    assert rate_of([Block(0, 5, 1)]) is None
    assert rate_of([Block(5, 0, 1)]) is None  # a counter that has not moved says nothing
    assert rate_of([*[Block(10, 0, 1)] * 19, Block(10, 2, 1)]).joules == pytest.approx(0.01)


def test_a_rate_of_one_block_is_wide_and_of_many_alike_narrow():
    one, many = rate_of([Block(10, 20, 1)]), rate_of([Block(10, 20, 1)] * 20)
    assert (one.low, one.high) == pytest.approx((1.4, 2.6))
    assert (many.low, many.high) == pytest.approx((1.7, 2.3))
    noisy = rate_of([Block(10, 10, 1), Block(10, 30, 1)] * 10)  # of which eight are kept of each
    assert (noisy.high - noisy.joules) / noisy.joules == pytest.approx(0.5 * (1 + 2 / 16))


def test_a_rate_does_not_see_that_the_machine_slept():
    slept = rate_of([Block(100, 200, 2), Block(100, 5000, 200), Block(100, 210, 2), Block(100, 190, 2)])
    assert slept.joules == pytest.approx(2.05)
    assert slept.high < 3.2


@given(blocks, st.floats(0.01, 100))
def test_a_rate_scales_with_the_energy_and_lies_within_its_range(found, factor):
    rate = rate_of(found)
    scaled = rate_of([Block(block.units, block.joules * factor, block.seconds) for block in found])
    assert scaled.joules == pytest.approx(rate.joules * factor)
    assert scaled.high == pytest.approx(rate.high * factor)
    assert 0 <= rate.low <= rate.joules <= rate.high
    ratios = [block.joules / block.units for block in found]
    assert min(ratios) <= rate.joules * (1 + 1e-9)
    assert rate.joules <= max(ratios) * (1 + 1e-9)


def test_first_pass_that_warms_up_is_no_measure_of_the_next():
    train, cold, warm = (Rate(joules, joules * 0.9, joules * 1.1, joules / 10) for joules in (3.0, 2.5, 0.8))
    expected = forward_rate(cold, train)
    assert (expected.joules, expected.high, expected.seconds) == pytest.approx((1.0, 2.75, 0.1))
    assert forward_rate(warm, train) == warm
    assert forward_rate(cold, None) == cold
    assert forward_rate(None, train) is None


def test_what_was_not_seen_is_inferred():
    seen = Rate(3.0, 2.7, 3.3, 0.1)
    rates = complete_rates({"train": seen, "evaluate": None, "save": None})
    assert (rates["evaluate"].joules, rates["evaluate"].seconds) == (3.0, 0.1)  # never too little
    assert rates["evaluate"].low < 1.0 < rates["evaluate"].joules  # a forward pass alone is about a third
    assert rates["save"].joules * 100e6 == pytest.approx(30.0)  # a second of a disk of 100 MB/s at 30 W
    quick = complete_rates({"train": seen}, bytes_per_s=1e9)["save"]
    assert (quick.joules * 1e9, quick.seconds * 1e9) == pytest.approx((30.0, 1.0))
    from_evaluation = complete_rates({"evaluate": seen})
    assert from_evaluation["train"].joules == pytest.approx(9.0)
    assert from_evaluation["train"].seconds == pytest.approx(0.3)
    assert complete_rates({"save": seen}) is None


def test_a_forecast_adds_the_work_that_is_left():
    rates = {"train": Rate(2, 1, 3, 0.1), "evaluate": Rate(1, 1, 1, 0.2), "save": Rate(4, 2, 5, 0.3)}
    spent = Spent(energy_kwh=1.0, emissions_g=500.0, duration_s=60.0)
    left = Work(train=1.8e6, evaluate=3.6e6, save=0.9e6)
    found = forecast(spent, left, rates, grams_per_kwh=200.0)
    assert found.energy_kwh == pytest.approx(1 + 1 + 1 + 1)
    assert found.energy_kwh_low == pytest.approx(1 + 0.5 + 1 + 0.5)
    assert found.energy_kwh_high == pytest.approx(1 + 1.5 + 1 + 1.25)
    assert found.emissions_g == pytest.approx(500 + 3 * 200)
    assert found.duration_s == pytest.approx(60 + 0.18e6 + 0.72e6 + 0.27e6)
    assert cost_kwh(left, rates) == pytest.approx(3.0)
    assert forecast(spent, Work(), rates, 200.0).energy_kwh == 1.0


def test_the_pass_that_measures_an_answer_ends_after_three_rounds_or_half_a_minute():
    assert inference_tokens(1000, Rate(1, 1, 1, seconds=0.001)) == 3000
    assert inference_tokens(1e9, Rate(1, 1, 1, seconds=0.001)) == pytest.approx(30_000)
    assert inference_tokens(1000, Rate(1, 1, 1, seconds=0.0)) == 3000


def simulated_blocks(seed, count=200):
    """Return the blocks of a run whose power wanders: noise, slow drift, bursts of another program."""
    draw, drift, burst = random.Random(seed), 0.0, 0
    found = []
    for _ in range(count):
        drift = 0.95 * drift + draw.gauss(0, 0.02)
        burst = burst - 1 if burst else (draw.randrange(5, 20) if draw.random() < 0.01 else 0)
        watts = 40 * (1 + drift) * math.exp(draw.gauss(0, 0.08)) * (1.5 if burst else 1.0)
        tokens = draw.gauss(4000, 300)
        found.append(Block(tokens, watts * 2.0, 2.0))
    return found


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5])
def test_the_range_covers_most_simulated_runs(share):
    covered, errors = 0, []
    for seed in range(20):
        run = simulated_blocks(seed)
        done, left = run[: int(share * len(run))], run[int(share * len(run)) :]
        rates = complete_rates({"train": rate_of(done)})
        spent = Spent(sum(block.joules for block in done) / 3.6e6, 0.0, 2.0 * len(done))
        found = forecast(spent, Work(train=sum(block.units for block in left)), rates, 0.0)
        final = sum(block.joules for block in run) / 3.6e6
        covered += found.energy_kwh_low <= final <= found.energy_kwh_high
        errors.append(abs(final / found.energy_kwh - 1))
    assert covered >= 16
    assert statistics.median(errors) < 0.1


def test_a_step_in_power_is_inside_the_range_once_it_was_seen():
    calm, busy = [Block(100, 200, 2)] * 20, [Block(100, 300, 2)] * 20
    rate = rate_of([*calm, *busy])
    assert rate.low < 2.0 < 2.5 == pytest.approx(rate.joules)
    assert rate.high > 3.0


@given(st.builds(Work, amounts, amounts, amounts), st.floats(0.1, 10))
def test_a_forecast_scales_with_the_work(left, factor):
    rates = {kind: Rate(2.0, 1.0, 3.0, 0.5) for kind in KINDS}
    nothing = Spent(0.0, 0.0, 0.0)
    more = Work(left.train * factor, left.evaluate * factor, left.save * factor)
    one, other = forecast(nothing, left, rates, 100.0), forecast(nothing, more, rates, 100.0)
    assert other.energy_kwh == pytest.approx(one.energy_kwh * factor)
    assert other.emissions_g == pytest.approx(one.energy_kwh * factor * 100.0)
    assert other.duration_s == pytest.approx(one.duration_s * factor)
