"""What an estimate says, from costs that are given."""

from types import SimpleNamespace

import pytest

from finetune.estimate.costs import Cost
from finetune.estimate.forecast import amounts, budget_verdicts, grid_table, memory_needed
from tests.estimate.conftest import emissions, found, measured

COSTS = {"load": Cost(3.6e5, 1.8e5, 7.2e5, 10, 5, 20), "train": Cost(3.24e6, 1.62e6, 6.48e6, 90, 45, 180)}


def test_amounts_keep_the_expected_reading_and_the_meters_band_apart():
    known = amounts(COSTS, emissions())
    assert known["energy_kwh"] == pytest.approx(1.0)
    assert (known["forecast"]["energy_kwh_low"], known["forecast"]["energy_kwh_high"]) == pytest.approx((0.5, 2.0))
    assert (known["energy_kwh_low"], known["energy_kwh_high"]) == pytest.approx((0.5 * 0.4, 2.0 * 2.0))
    assert (known["duration_s"], known["forecast"]["duration_s_high"]) == (100, 200)


def test_amounts_price_energy_with_pue_and_grid_and_phases_add_up():
    known = amounts(COSTS, emissions(pue=1.5))
    assert known["energy_kwh"] == pytest.approx(1.0)
    assert known["emissions_g"] == pytest.approx(150)
    assert sum(phase["energy_kwh"] for phase in known["phases"].values()) == pytest.approx(known["energy_kwh"])
    assert sum(phase["emissions_g"] for phase in known["phases"].values()) == pytest.approx(known["emissions_g"])
    assert list(known["phases"]) == ["load", "train"]


def test_amounts_widen_the_grams_where_the_place_is_assumed():
    grid = emissions()["carbon_intensity"] | {"g_per_kwh_low": 50.0, "g_per_kwh_high": 700.0}
    known = amounts(COSTS, emissions(carbon_intensity=grid))
    assert known["emissions_g_low"] == pytest.approx(0.2 * 50)
    assert known["emissions_g_high"] == pytest.approx(4.0 * 700)
    assert known["forecast"]["emissions_g_low"] == pytest.approx(0.5 * 100)


def test_amounts_without_a_reading_are_null_but_for_the_time():
    known = amounts(COSTS, emissions(energy_kwh=None, complete=False))
    energies = ("energy_kwh", "energy_kwh_low", "energy_kwh_high", "emissions_g", "emissions_g_low", "emissions_g_high")
    assert [known[name] for name in energies] == [None] * 6
    assert known["phases"]["train"]["energy_kwh"] is None
    assert known["duration_s"] == 100


def test_amounts_of_a_machine_that_is_read_in_part_are_lower_bounds():
    known = amounts(COSTS, emissions(complete=False))
    assert known["energy_kwh"] == pytest.approx(1.0)
    assert known["energy_kwh_high"] is None
    assert known["complete"] is False


@pytest.mark.parametrize(("limit", "fits"), [(0.7, "no"), (0.8, "perhaps"), (2.9, "perhaps"), (3.0, "yes")])
def test_budgets_count_energy_with_pue_and_the_whole_range(limit, fits):
    known = amounts(COSTS, emissions(pue=1.5))
    [verdict] = budget_verdicts(known, SimpleNamespace(max_energy_kwh=limit, max_emissions_g=None))
    assert verdict["fits"] == fits
    assert verdict["key"] == "emissions.max_energy_kwh"
    assert verdict["forecast"] == pytest.approx(1.5)


def test_budgets_of_grams_and_without_a_reading():
    limits = SimpleNamespace(max_energy_kwh=None, max_emissions_g=120.0)
    [verdict] = budget_verdicts(amounts(COSTS, emissions()), limits)
    assert (verdict["fits"], verdict["high"]) == ("perhaps", pytest.approx(200))
    [unknown] = budget_verdicts(amounts(COSTS, emissions(energy_kwh=None)), limits)
    assert unknown["fits"] is None
    assert (
        budget_verdicts(amounts(COSTS, emissions()), SimpleNamespace(max_energy_kwh=None, max_emissions_g=None)) == []
    )


def test_grids_price_the_same_energy_and_name_the_scope():
    rows = grid_table(amounts(COSTS, emissions(pue=2.0)))
    assert rows[0]["place"] == "here"
    assert rows[0]["emissions_g"] == pytest.approx(200)
    assert [row["location"] for row in rows[1:]] == ["FRA", "BRA", "USA", "IND", None]
    assert all(row["emissions_g"] == pytest.approx(2 * row["g_per_kwh"]) for row in rows)
    assert all(row["scope"] and row["g_per_kwh"] > 0 for row in rows)


def test_memory_is_measured_or_else_the_estimate_on_top_of_what_is_loaded():
    assert memory_needed(found(), measured(), 10**9)["ram_bytes"] == 600_000_000
    known = memory_needed(found(), None, 10**9)
    assert (known["ram_bytes"], known["known"], known["gpu_bytes"]) == (513_000_000, "estimated", None)
    on_gpu = found(hardware=found()["hardware"] | {"device": "cuda"})
    assert memory_needed(on_gpu, None, 10**9)["gpu_bytes"] == 17_000_000
    assert memory_needed(on_gpu, None, 10**9)["ram_bytes"] == 500_000_000
    assert memory_needed(found(peak_ram_bytes=None), None, 10**9)["ram_bytes"] is None
