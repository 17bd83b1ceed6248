"""Asynchronous successive halving: which trials fall behind the better half at evaluation number 1, 2, 4, 8 …. Pure.

After Li et al., A System for Massively Parallel Hyperparameter Tuning (MLSys 2020), with a reduction factor of 2: with
the usual 3 or 4 most fine-tunings would never reach the second rung.
"""

from __future__ import annotations

from collections.abc import Mapping

_REDUCTION = 2

Reports = Mapping[int, Mapping[int, float]]
"""What trials have reported, by their labels: the score at each evaluation, by its number (from 1)."""


def falls_behind(reports: Reports, own: int, number: int, greater_is_better: bool) -> bool:
    """Tell whether a trial should end after its evaluation of this number.

    It goes on if it belongs to the better half (at least one) of the trials that came to this evaluation so far; ties
    go on. A trial counts once, however many lives it has had.
    """
    if number < 1 or number & (number - 1):
        return False  # no power of 2
    came = [scores[number] for scores in reports.values() if number in scores]
    best_first = sorted(came, reverse=greater_is_better)
    last = best_first[max(1, len(came) // _REDUCTION) - 1]
    score = reports[own][number]
    return score < last if greater_is_better else score > last
