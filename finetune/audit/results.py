"""What a probe found: rows of one form, whatever the probe, with the tests corrected for being several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from finetune.runs.statistics import holm

LEVEL = 0.05  # the chance that a probe flags anything of a model without what it looks for


@dataclass(frozen=True)
class Finding:
    """One number of a probe: what of whom, its interval, its n, and the value of a model without the bias.

    p is None where nothing is tested; `made_of` says in words what the number is made of, `detail` in numbers.
    """

    group: str
    measure: str
    value: float | None
    low: float | None
    high: float | None
    n: int
    null_value: float
    unit: str
    p: float | None = None
    p_adjusted: float | None = None
    made_of: str = ""
    detail: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return it as it stands in the record; flagged is None where nothing could be tested."""
        names = ("group", "measure", "value", "low", "high", "n", "null_value", "unit", "p", "p_adjusted",
                 "made_of")  # fmt: skip
        flagged = None if self.p_adjusted is None else self.p_adjusted <= LEVEL
        return {**{name: getattr(self, name) for name in names}, "flagged": flagged, "detail": dict(self.detail)}


@dataclass(frozen=True)
class Result:
    """What a probe found of a model, or the reason why it could not look.

    left_out counts what was not used, by reason.
    """

    findings: tuple[Finding, ...] = ()
    left_out: Mapping[str, int] = field(default_factory=dict)
    reason: str | None = None

    def to_json(self, confidence: float) -> dict[str, Any] | None:
        """Return it as it stands in the record; None when it could not look."""
        if self.reason is not None:
            return None
        return {
            "confidence": confidence,
            "findings": [finding.to_json() for finding in self.findings],
            "left_out": {why: count for why, count in self.left_out.items() if count},
        }


def corrected(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """Return the findings of one probe with Holm's correction over all its tests."""
    adjusted = holm([finding.p for finding in findings])
    return tuple(replace(finding, p_adjusted=p) for finding, p in zip(findings, adjusted, strict=True))
