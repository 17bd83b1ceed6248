"""Means, medians, and the difference of two systems over the same seeds and rows."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Any

mean = statistics.fmean
median = statistics.median


def paired_difference(pairs: Sequence[tuple[set[int], set[int]]], rows: int) -> dict[str, Any]:
    """Return the mean accuracy difference of two systems with 95 % intervals, as `difference_by_row` does.

    pairs: for each seed the wrong rows (1-based) of the first and of the second system; rows: of the test split.
    """
    right = [tuple([float(row not in wrong) for row in range(1, rows + 1)] for wrong in pair) for pair in pairs]
    return difference_by_row([(first, second) for first, second in right])


def difference_by_row(pairs: Sequence[tuple[Sequence[float], Sequence[float]]]) -> dict[str, Any]:
    """Return the mean difference of two systems' scores with 95 % intervals.

    pairs: for each seed what each row contributes to the score of the first and of the second system (the mean is the
    score). With n seeds: d̄ ± t_{n−1}·√(s_d²/n + v), v = variance over rows of the seed-mean difference / rows, which
    is what a bootstrap of rows converges to; "seeds_only" is v = 0. Bounds are None for one seed. p_rows: how often
    other rows would give so large a difference if there were none, the seeds being these (z test, two-sided).
    """
    from scipy.stats import norm, t

    differences = [mean(first) - mean(second) for first, second in pairs]
    centre, count = mean(differences), len(pairs)
    gained = [[one - other for one, other in zip(first, second, strict=True)] for first, second in pairs]
    by_row = [mean(values) for values in zip(*gained, strict=True)]
    row_variance = statistics.variance(by_row) / len(by_row)
    bounds: dict[str, float | None] = dict.fromkeys(("low", "high", "low_seeds_only", "high_seeds_only"))
    if count > 1:
        factor, seed_variance = float(t.ppf(0.975, count - 1)), statistics.variance(differences) / count
        for suffix, variance in (("", seed_variance + row_variance), ("_seeds_only", seed_variance)):
            half = factor * math.sqrt(variance)
            bounds[f"low{suffix}"], bounds[f"high{suffix}"] = centre - half, centre + half
    error = math.sqrt(row_variance)
    p_rows = 2 * float(norm.sf(abs(centre) / error)) if error else float(centre == 0)
    return {"mean": centre, "by_seed": differences, "row_standard_error": error, "p_rows": p_rows, **bounds}
