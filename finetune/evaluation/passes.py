"""What an answer costs: passes of the forward path over a split, under the meter."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from finetune import ranks
from finetune.data.arrow_files import table_of
from finetune.data.batching import evaluation_batches, without_targets
from finetune.data.spool import as_array
from finetune.evaluation.predict import predict_rows

if TYPE_CHECKING:
    from finetune.emissions.meter import Reading
    from finetune.evaluation.predict import Predictor

MICROJOULES_PER_WH = 3.6e9


@dataclass(frozen=True)
class Passes:
    """Rows and tokens that went through the forward path, and what that took; None where no energy could be read."""

    rows: int
    tokens: int
    duration_s: float
    microjoules: int | None
    components_uj: Mapping[str, int] = field(default_factory=dict)


def cost_of_answers(found: Passes, name: str, batch_size: int) -> dict[str, Any] | None:
    """Return Wh per 1,000 rows and what it was measured with, for the emissions section; None: nothing was read."""
    if found.microjoules is None:
        return None
    per_1000 = 1000 / MICROJOULES_PER_WH / found.rows
    return {
        "wh_per_1000_predictions": found.microjoules * per_1000,
        "inference": {
            "split": name,
            "rows": found.rows,
            "duration_s": found.duration_s,
            "batch_size": batch_size,
            "mean_length_tokens": found.tokens / found.rows,
            "components_wh_per_1000": {part: energy * per_1000 for part, energy in found.components_uj.items()},
        },
    }


def passes_over(
    predictor: Predictor,
    features: Any,
    rows: int,
    mark: Callable[[], Reading],
    check: Callable[[], None],
    passes: int,
    seconds: float,
) -> Passes:
    """Measure passes of the forward path over an encoded split, until there were so many or the time is over.

    `rows` is how many rows the features are of. Batches come in random order, since they differ in length. Of several
    ranks, all compute and rank 0 knows the energy.
    """
    import itertools

    import numpy

    split = without_targets(features)
    lengths = as_array(table_of(split).column("length"), numpy.int32)
    batches = list(evaluation_batches(lengths, predictor.batch_size))
    draw = numpy.random.default_rng(0)
    endless = (batches[place] for _ in itertools.count() for place in draw.permutation(len(batches)))
    rounds = -(-passes * len(batches) // ranks.size())
    order = itertools.islice(endless, ranks.rank(), rounds * ranks.size(), ranks.size())
    done, tokens = 0, 0
    before, began = mark(), time.perf_counter()
    # The time is asked where batches are handed out: what is begun is finished and counted.
    in_time = itertools.takewhile(lambda _: not ranks.largest(time.perf_counter() - began > seconds), order)
    for places, _ in predict_rows(predictor, split, in_time, check):
        done, tokens = done + len(places), tokens + int(lengths[places].sum())
    spent, duration_s = spent_between(before, mark()), time.perf_counter() - began
    source_rows = round(ranks.total(done) * rows / len(split))  # one may be several features
    return Passes(source_rows, ranks.total(tokens), duration_s, *spent)


def spent_between(before: Reading, after: Reading) -> tuple[int | None, dict[str, int]]:
    """Return the microjoules between two readings, and those of each component; (None, {}) without a reading."""
    if before.energy_kwh is None or after.energy_kwh is None:
        return None, {}
    earlier = before.components_uj
    parts = {name: energy - earlier.get(name, 0) for name, energy in after.components_uj.items()}
    return after.microjoules - before.microjoules, parts
