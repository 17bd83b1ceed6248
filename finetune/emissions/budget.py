"""A limit on what a run may spend: written as 50g or 0.2kWh, and asked before each stretch of work.

Budgets count what the building draws (energy × PUE), over all lives and machines of a run, at the central values.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from finetune.errors import FinetuneError
from finetune.text import join_words

GRAMS: Mapping[str, float] = {"mg": 1e-3, "g": 1.0, "kg": 1e3}
KILOWATT_HOURS: Mapping[str, float] = {"Wh": 1e-3, "kWh": 1.0}
# Factors on what a stretch of work and the end of the run are expected to take.
NEXT_MARGIN = 1.1
ENDING_MARGIN = 1.2
_AMOUNT = re.compile(r"\s*(?P<number>\d+(\.\d*)?([eE][+-]?\d+)?|\.\d+)\s*(?P<unit>[^\d\s].*?)?\s*")


@dataclass(frozen=True)
class Budget:
    """The most that a run may spend; None: no limit."""

    energy_kwh: float | None = None
    emissions_g: float | None = None

    def __bool__(self) -> bool:
        return self.energy_kwh is not None or self.emissions_g is not None


@dataclass(frozen=True)
class Account:
    """What a run has spent, and what it needs to do the work until the next look and then to end.

    All energies are the building's, in kWh. `ending_kwh` is what it takes to load the best weights, evaluate and save;
    `g_per_kwh` is the grid's carbon intensity.
    """

    spent_kwh: float
    spent_g: float
    next_kwh: float
    ending_kwh: float
    g_per_kwh: float

    @property
    def needed_kwh(self) -> float:
        """Return the energy to be kept back, with its margins."""
        return NEXT_MARGIN * self.next_kwh + ENDING_MARGIN * self.ending_kwh


@dataclass(frozen=True)
class Shortage:
    """A budget that does not suffice, in its unit: which one, its size, what is spent and what is still needed."""

    kind: str
    unit: str
    budget: float
    spent: float
    needed: float


def shortage(budget: Budget, account: Account) -> Shortage | None:
    """Return which budget would be exceeded if the work until the next look were done, None when there is room."""
    needed_g = account.needed_kwh * account.g_per_kwh
    if budget.energy_kwh is not None and account.spent_kwh + account.needed_kwh > budget.energy_kwh:
        return Shortage("energy", "kWh", budget.energy_kwh, account.spent_kwh, account.needed_kwh)
    if budget.emissions_g is not None and account.spent_g + needed_g > budget.emissions_g:
        return Shortage("carbon", "g", budget.emissions_g, account.spent_g, needed_g)
    return None


def parse_budget(energy: str | None, emissions: str | None) -> Budget:
    """Return the budget of the command line; raises FinetuneError for an amount that is none."""
    return Budget(
        None if energy is None else parse_amount(energy, "--max-energy", KILOWATT_HOURS),
        None if emissions is None else parse_amount(emissions, "--max-emissions", GRAMS),
    )


def parse_amount(text: str, option: str, units: Mapping[str, float]) -> float:
    """Return an amount such as 50g or 0.2kWh in the unit whose factor is 1; raises FinetuneError."""
    found = _AMOUNT.fullmatch(text)
    factor = units.get(found["unit"] or "") if found else None
    if found is None or factor is None:
        unit = f"; {found['unit']} is another unit" if found and found["unit"] else ""
        example = "50g" if "g" in units else "0.2kWh"
        raise FinetuneError(
            f"{option} {text}: expected a number and its unit, {join_words(units)}{unit}",
            f"As in {option} {example}.",
        )
    amount = float(found["number"]) * factor
    if amount <= 0:
        raise FinetuneError(f"{option} {text}: a budget must be more than 0", f"Leave {option} out for no limit.")
    return amount
