"""What a run used above what its machine draws at rest, where a baseline was taken before it began."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from finetune.emissions.components import COMPONENTS, MICROJOULES_PER_KWH

if TYPE_CHECKING:
    from finetune.emissions.ledger import Life


def idle_section(lives: Sequence[Life]) -> dict[str, Any] | None:
    """Return {duration_s, watts, above_idle_kwh} by component, None without a baseline.

    Both are None for a component that no sensor reads: a model or a constant says nothing about rest. Above idle is
    the sum of energy − idle power × time over all lives and machines, each with its own baseline, and not clipped.
    """
    with_baseline = [life for life in lives if life.idle_microseconds]
    if not with_baseline:
        return None
    return {
        "duration_s": sum(life.idle_microseconds for life in with_baseline if life.node == 0) / 1e6,
        "watts": {name: _watts(with_baseline, name) for name in COMPONENTS},
        "above_idle_kwh": {name: _above_kwh(lives, name) for name in COMPONENTS},
    }


def _watts(lives: Sequence[Life], name: str) -> float | None:
    """Return the idle power of a component over all machines: for each the mean over its baselines."""
    having = [life for life in lives if _has(life, name)]
    if not having or not all(_is_sensed(life, name) for life in having):
        return None
    nodes = [[life for life in having if life.node == node] for node in sorted({life.node for life in having})]
    return sum(_idle_uj(own, name) / sum(life.idle_microseconds for life in own) for own in nodes)


def _above_kwh(lives: Sequence[Life], name: str) -> float | None:
    having = [life for life in lives if _has(life, name)]
    if not having or not all(_is_sensed(life, name) and life.idle_microseconds for life in having):
        return None
    return sum(_above_uj(life, name) for life in having) / MICROJOULES_PER_KWH


def _above_uj(life: Life, name: str) -> float:
    spent = sum(energy for (component, _), energy in life.microjoules.items() if component == name)
    return spent - _idle_uj([life], name) * sum(life.microseconds.values()) / life.idle_microseconds


def _idle_uj(lives: Sequence[Life], name: str) -> int:
    return sum(life.idle_microjoules.get(name, 0) for life in lives)


def _has(life: Life, name: str) -> bool:
    return any(part.name == name and part.method != "absent" for part in life.components)


def _is_sensed(life: Life, name: str) -> bool:
    measured = any(part.name == name and part.method == "measured" for part in life.components)
    return measured and name not in life.missing
