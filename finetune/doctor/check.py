"""One thing that the doctor looked at, and how all of them are shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from finetune.runs.files import scrub
from finetune.text import plural

OK, WARN, FAIL = "ok", "warn", "fail"


@dataclass(frozen=True)
class Check:
    """What was found, whether it is ok, a warn(ing) or a fail(ure), and what mends it."""

    name: str
    level: str
    found: str
    remedy: str | None = None


def is_healthy(checks: Sequence[Check]) -> bool:
    """Tell whether no check failed."""
    return all(check.level != FAIL for check in checks)


def as_json(checks: Sequence[Check]) -> dict[str, Any]:
    """Return the checks for programs, with home paths as ~ and without tokens."""
    entries = [
        {"name": check.name, "level": check.level, "found": check.found, "remedy": check.remedy} for check in checks
    ]
    cleaned: dict[str, Any] = scrub({"healthy": is_healthy(checks), "checks": entries})
    return cleaned


def as_text(checks: Sequence[Check]) -> str:
    """Return a line a check, its remedy below it, and a line that sums up."""
    width = max(len(check.name) for check in checks)
    lines = []
    for check in checks:
        lines.append(f"{check.level:<4}  {check.name:<{width}}  {check.found}")
        if check.remedy:
            lines.append(f"{'':<4}  {'':<{width}}  → {check.remedy}")
    warnings, failures = (sum(check.level == level for check in checks) for level in (WARN, FAIL))
    lines += ["", f"{plural(len(checks), 'check')}: {plural(failures, 'failure')}, {plural(warnings, 'warning')}."]
    text: str = scrub("\n".join(lines))
    return text
