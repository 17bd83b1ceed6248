"""A short try of a recipe: its data read, its model loaded, some real steps under the meter, nothing kept.

Run as a process of its own, so that `finetune estimate` stays light. What it finds goes into files of its folder:
`found.json` before the first step, `measured.json` after the last one, `error.json` for what the user can mend.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from itertools import chain, count, takewhile
from pathlib import Path
from typing import Any

from finetune.data.arrow_files import table_of
from finetune.data.batching import batch_columns, epoch_batches, evaluation_batches
from finetune.emissions.forecast import SHORTEST_BLOCK_S, Block
from finetune.emissions.opening import open_meter
from finetune.errors import FinetuneError
from finetune.estimate.ask import ERROR, FOUND, MEASURED
from finetune.estimate.planned import heaviest_step, planned_work
from finetune.evaluation.predict import predict_rows
from finetune.recipe.load import load_recipe
from finetune.recipe.schema import Recipe
from finetune.runs.files import drop_folder, write_atomically
from finetune.runs.record import Run
from finetune.training.audits import open_audit
from finetune.training.batches import row_lengths
from finetune.training.checkpoints import save_checkpoint
from finetune.training.disk import disk_estimate, free_bytes
from finetune.training.dry_run import what_was_found
from finetune.training.features import record, recorded_outputs
from finetune.training.hardware import wait_for_device
from finetune.training.interrupts import Interrupts
from finetune.training.loop import optimizer_steps
from finetune.training.machines import Machines
from finetune.training.memory import explain_shortage, peak_memory
from finetune.training.prepare import Prepared, prepare
from finetune.training.random_state import take_random_state
from finetune.training.session import Session

WARM_UP_S = 2.0
TRAIN_BLOCKS, EVALUATION_BLOCKS = 8, 2
TRAIN_SECONDS, EVALUATION_SECONDS = 22.0, 8.0
# A checkpoint is written once, where it is not larger and has room four times.
_LARGEST_SAVE_BYTES = 1_500_000_000


def main() -> None:
    """Try the recipe of a folder: its path, `measure` or `count`, country and region ("": not given)."""
    from finetune.console import quiet_libraries

    quiet_libraries()
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # the meter is closed on the way out
    directory, what, country, region = Path(sys.argv[1]), *sys.argv[2:5]
    try:
        recipe = load_recipe(directory / "recipe.yaml").recipe
        try_out(recipe, directory, what == "measure", country or None, region or None)
    except FinetuneError as error:
        _write(directory / ERROR, {"message": error.message, "hint": error.hint})
        sys.exit(1)


def try_out(recipe: Recipe, directory: Path, measure: bool, country: str | None, region: str | None) -> None:
    """Write into a folder what a run of the recipe has to do, and what a little of it costs if that is asked for.

    Raises FinetuneError for whatever the run would be refused for, and when the memory is too small.
    """
    with _session(recipe, directory, country, region) as session:
        try:
            prepared = prepare(recipe, session.phase, directory)
            session.mark()
            found = what_was_found(prepared, recipe.name or recipe.task)
            work = planned_work(prepared, Path(recipe.output_dir), open_audit(prepared, session))
            known = {"work": work, "hardware": prepared.hardware.to_dict()}
            _write(directory / FOUND, found | known | {"emissions": session.meter.summary(), **peak_memory()})
            for measured in _measured(prepared, session) if measure else ():
                session.mark()
                _write(directory / MEASURED, measured | {"emissions": session.meter.summary(), **peak_memory()})
        except BaseException as error:
            explained = explain_shortage(error, recipe.training, session.failed_in)
            if explained is error:
                raise
            raise explained from error


@contextmanager
def _session(recipe: Recipe, directory: Path, country: str | None, region: str | None) -> Iterator[Session]:
    """Open what training functions need, in a folder that is thrown away."""
    name = f"estimate-{os.getpid()}"  # other runs on this machine learn of it as of a run
    meter = open_meter(recipe.emissions, directory, country, region, name, synchronize=wait_for_device)
    run = Run(run_id=name, name=name, directory=directory)
    try:
        yield Session(directory, run, meter, Interrupts(), Machines(directory))
    finally:
        meter.close("estimated")


def _measured(prepared: Prepared, session: Session) -> Iterator[dict[str, Any]]:
    """Measure each kind of work for some seconds; yield after each of them what is known by then.

    `blocks` are units, joules and seconds by kind of work.
    """
    blocks: dict[str, list[Block]] = {}
    if prepared.frozen.cut is not None:
        prepared, blocks["record"] = _sampled(prepared, session)
    known: dict[str, Any] = {"steps": 0}

    def so_far() -> dict[str, Any]:
        return known | {"blocks": {kind: [asdict(block) for block in found] for kind, found in blocks.items()}}

    # A short recipe is gone through more than once: the plan of the probe has no end.
    endless = replace(prepared, plan=replace(prepared.plan, total_steps=10**9))
    first = _first_step(prepared)
    warm_up = _warm_up(endless, session, first, heaviest_step(prepared))
    blocks["train"] = [warm_up]  # where a step takes long there may be no other
    known["warm_up"] = asdict(warm_up)
    yield so_far()
    blocks["train"], known["steps"] = _train_blocks(endless, session, first)
    yield so_far()
    blocks["evaluate"] = _evaluation_blocks(prepared, session)
    blocks["save"] = _save_blocks(prepared, session)
    yield so_far()


class _Watch:
    """Cuts work into blocks: what has been spent since the last cut."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._last_uj, self._last_s = session.mark().microjoules, time.perf_counter()

    @property
    def seconds(self) -> float:
        """Return the time since the last cut."""
        return time.perf_counter() - self._last_s

    def cut(self, units: float) -> Block:
        """Measure now and return the block since the last cut, in which so many units were done."""
        microjoules, now = self._session.mark().microjoules, time.perf_counter()
        block = Block(units, (microjoules - self._last_uj) / 1e6, now - self._last_s)
        self._last_uj, self._last_s = microjoules, now
        return block


def _first_step(prepared: Prepared) -> int:
    """Return the step after which steps are measured; with gradual unfreezing all layers learn from there on."""
    opened = prepared.unfreezing.last_opening if prepared.unfreezing else 0
    return min(opened, prepared.plan.total_steps - 1)


def _warm_up(prepared: Prepared, session: Session, first: int, heaviest: int) -> Block:
    """Take the step with the longest row, which shows the memory that is needed, then others for a while."""
    watch = _Watch(session)
    with session.phase("train"):
        tokens = _step_until(prepared, session, max(first, heaviest - 1), 0.0)[1]
        tokens += _step_until(prepared, session, first, WARM_UP_S - watch.seconds)[1]
    return watch.cut(tokens)


def _train_blocks(prepared: Prepared, session: Session, first: int) -> tuple[list[Block], int]:
    """Train from a step on, and return the blocks and how many steps these hold."""
    blocks: list[Block] = []
    steps, began = 0, time.perf_counter()
    watch = _Watch(session)
    with session.phase("train"):
        while len(blocks) < TRAIN_BLOCKS and time.perf_counter() - began < TRAIN_SECONDS:
            done, tokens = _step_until(prepared, session, first + steps, SHORTEST_BLOCK_S)
            steps += done
            blocks.append(watch.cut(tokens))
    return blocks, steps


def _step_until(prepared: Prepared, session: Session, start: int, seconds: float) -> tuple[int, int]:
    """Take the steps after `start`, one at least, until the seconds are over; return how many, and their tokens."""
    began, done, tokens = time.perf_counter(), 0, 0
    for step in optimizer_steps(prepared, start, session):
        done, tokens = done + 1, tokens + step.padded_tokens
        wait_for_device()
        if time.perf_counter() - began >= seconds:
            break
    return done, tokens


def _evaluation_blocks(prepared: Prepared, session: Session) -> list[Block]:
    """Run the forward path over a split in batches of random order, which differ in length; first one to warm up.

    Where the frozen part is on record, what is left of the forward path.
    """
    import numpy

    name = "train" if prepared.frozen.records.get("train") else "validation"
    split, predictor = prepared.encoded.splits[name], prepared.predictor
    if name == "train":
        predictor = replace(predictor, recorded=lambda rows: recorded_outputs(prepared, name, rows))
    lengths = row_lengths(split)
    batches = list(evaluation_batches(lengths, predictor.batch_size))
    draw = numpy.random.default_rng(0)
    order = chain.from_iterable(draw.permutation(len(batches)) for _ in count())
    blocks: list[Block] = []
    with session.phase("evaluate"):
        list(predict_rows(predictor, split, batches[:1], session.check))  # the longest rows: what memory they need
    watch, began = _Watch(session), time.perf_counter()
    with session.phase("evaluate"):
        while len(blocks) < EVALUATION_BLOCKS and time.perf_counter() - began < EVALUATION_SECONDS:
            in_time = takewhile(lambda _: watch.seconds < SHORTEST_BLOCK_S, (batches[place] for place in order))
            rows = [places for places, _ in predict_rows(predictor, split, in_time, session.check)]
            blocks.append(watch.cut(sum(int(lengths[places].sum()) for places in rows)))
    return blocks


def _save_blocks(prepared: Prepared, session: Session) -> list[Block]:
    """Write a checkpoint once, unless it is large or there is little room; it takes memory too."""
    size = disk_estimate(prepared, session.directory).checkpoint_bytes
    free = free_bytes(session.directory)
    if size > _LARGEST_SAVE_BYTES or (free or 0) < 4 * size:
        return []
    watch = _Watch(session)
    with session.phase("save"):
        written = save_checkpoint(session.directory, 0, prepared.trainable, {}, [take_random_state()])
    block = watch.cut(size)
    drop_folder(written)
    return [block]


def _sampled(prepared: Prepared, session: Session) -> tuple[Prepared, list[Block]]:
    """Return the recipe with the frozen part of some training rows on record, and what recording them took.

    Batches are added until recording takes long enough to be measured.
    """
    import datasets
    import numpy

    plan, whole = prepared.plan, prepared.encoded.splits["train"]
    lengths = row_lengths(whole)
    training = prepared.recipe.training
    batches = epoch_batches(lengths, plan.global_batch_size, training.train_sampling_strategy, training.seed, 0)
    taken = 1
    while True:
        taken = min(taken, len(batches))
        rows = numpy.concatenate([batches[place] for place in range(taken)])
        split = datasets.Dataset(table_of(whole).take(rows), fingerprint=f"sample-{taken}")
        sample = replace(
            prepared,
            encoded=replace(prepared.encoded, splits=prepared.encoded.splits | {"train": split}),
            train_rows=batch_columns(split, prepared.task),
            plan=replace(plan, rows=len(rows), steps_per_epoch=taken, total_steps=taken),
            frozen=replace(prepared.frozen, records={}),
        )
        watch = _Watch(session)
        with session.phase("train"):
            record(sample, session, "train")
        block = watch.cut(int(row_lengths(split).sum()))
        if block.seconds >= SHORTEST_BLOCK_S or taken == len(batches):
            return sample, [block]
        taken *= max(2, min(8, int(SHORTEST_BLOCK_S / max(block.seconds, 0.01))))


def _write(path: Path, content: dict[str, Any]) -> None:
    write_atomically(path, json.dumps(content))


if __name__ == "__main__":
    main()
