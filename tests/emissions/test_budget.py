"""Budgets: how they are written, and when one does not suffice."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune.emissions.budget import (
    GRAMS,
    KILOWATT_HOURS,
    Account,
    Budget,
    parse_amount,
    parse_budget,
    shortage,
)
from finetune.errors import FinetuneError

amounts = st.floats(0, 1e6)


@pytest.mark.parametrize(
    ("text", "grams"),
    [("50g", 50), ("50 g", 50), ("1.5kg", 1500), ("250mg", 0.25), (".5g", 0.5), ("5.g", 5), ("2e-3kg", 2)],
)
def test_an_amount_of_emissions_is_read_in_grams(text, grams):
    assert parse_amount(text, "--max-emissions", GRAMS) == pytest.approx(grams)


@pytest.mark.parametrize(("text", "kwh"), [("0.2kWh", 0.2), ("200Wh", 0.2), ("3 kWh", 3)])
def test_an_amount_of_energy_is_read_in_kwh(text, kwh):
    assert parse_amount(text, "--max-energy", KILOWATT_HOURS) == pytest.approx(kwh)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("500J", "--max-energy 500J: expected a number and its unit, Wh or kWh; J is another unit"),
        ("1MWh", "--max-energy 1MWh: expected a number and its unit, Wh or kWh; MWh is another unit"),
        ("1kwh", "--max-energy 1kwh: expected a number and its unit, Wh or kWh; kwh is another unit"),
        ("5", "--max-energy 5: expected a number and its unit, Wh or kWh"),
        ("much", "--max-energy much: expected a number and its unit, Wh or kWh"),
        ("-1kWh", "--max-energy -1kWh: expected a number and its unit, Wh or kWh"),
        ("1,5kWh", "--max-energy 1,5kWh: expected a number and its unit, Wh or kWh; ,5kWh is another unit"),
        ("", "--max-energy : expected a number and its unit, Wh or kWh"),
        ("0Wh", "--max-energy 0Wh: a budget must be more than 0"),
    ],
)
def test_an_amount_that_is_none_says_what_is_expected(text, message):
    with pytest.raises(FinetuneError) as caught:
        parse_amount(text, "--max-energy", KILOWATT_HOURS)
    assert caught.value.message == message
    assert caught.value.hint


def test_the_options_make_a_budget():
    assert parse_budget(None, None) == Budget()
    assert not Budget()
    assert parse_budget("0.2kWh", "50g") == Budget(0.2, 50.0)


def test_a_budget_keeps_room_for_the_next_steps_and_for_the_end():
    account = Account(spent_kwh=1.0, spent_g=400.0, next_kwh=0.1, ending_kwh=0.2, g_per_kwh=500.0)
    needed = 1.1 * 0.1 + 1.2 * 0.2
    assert account.needed_kwh == pytest.approx(needed)
    assert shortage(Budget(), account) is None
    assert shortage(Budget(energy_kwh=1.36), account) is None
    short = shortage(Budget(energy_kwh=1.34), account)
    assert (short.kind, short.unit, short.budget, short.spent) == ("energy", "kWh", 1.34, 1.0)
    assert short.needed == pytest.approx(needed)
    assert shortage(Budget(emissions_g=576.0), account) is None
    short = shortage(Budget(energy_kwh=9.0, emissions_g=574.0), account)
    assert (short.kind, short.unit, short.spent) == ("carbon", "g", 400.0)
    assert short.needed == pytest.approx(needed * 500)


@given(amounts, amounts, amounts, amounts)
def test_what_suffices_for_more_work_suffices_for_less(budget, spent, following, ending):
    account = Account(spent, 0.0, following, ending, 100.0)
    if shortage(Budget(energy_kwh=budget), account) is None:
        assert spent + following + ending <= budget * (1 + 1e-12)
        assert shortage(Budget(energy_kwh=budget), Account(spent, 0.0, following / 2, ending, 100.0)) is None
