"""Means, medians, and the difference of two systems over the same seeds and rows."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Any

mean = statistics.fmean
median = statistics.median


def paired_difference(pairs: Sequence[tuple[set[int], set[int]]], rows: int) -> dict[str, Any]:
    """Return the mean accuracy difference of two systems with 95 % intervals.

    pairs: for each seed the wrong rows (1-based) of the first and of the second system; rows: of the test split.
    With n seeds: d̄ ± t_{n−1}·√(s_d²/n + v), v = variance over rows of the seed-mean difference / rows, which is
    what a bootstrap of rows converges to; "seeds_only" is v = 0. Bounds are None for one seed.
    """
    from scipy.stats import t

    differences = [(len(second) - len(first)) / rows for first, second in pairs]
    centre, count = mean(differences), len(pairs)
    by_row = [sum((row in second) - (row in first) for first, second in pairs) / count for row in range(1, rows + 1)]
    row_variance = statistics.variance(by_row) / rows
    bounds: dict[str, float | None] = dict.fromkeys(("low", "high", "low_seeds_only", "high_seeds_only"))
    if count > 1:
        factor, seed_variance = float(t.ppf(0.975, count - 1)), statistics.variance(differences) / count
        for suffix, variance in (("", seed_variance + row_variance), ("_seeds_only", seed_variance)):
            half = factor * math.sqrt(variance)
            bounds[f"low{suffix}"], bounds[f"high{suffix}"] = centre - half, centre + half
    return {"mean": centre, "by_seed": differences, "row_standard_error": math.sqrt(row_variance), **bounds}
