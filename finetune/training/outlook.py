"""What a run will have spent at its end, told while it works, and what its budget leaves.

At some step borders, at least two seconds apart, all ranks stop for a moment and rank 0 reads the meter. Between looks
nothing is asked and nothing exchanged; what a look finds (the account, the step of the next one) is told to all ranks,
so that they stop at the same step.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING

from finetune import ranks
from finetune.console import say
from finetune.emissions.budget import Account, Budget, Shortage, shortage
from finetune.emissions.components import JOULES_PER_KWH, MICROJOULES_PER_KWH
from finetune.emissions.forecast import (
    BYTES_PER_S,
    KEPT_BLOCKS,
    KINDS,
    SHORTEST_BLOCK_S,
    Block,
    Forecast,
    Rate,
    Spent,
    Work,
    at_least,
    complete_rates,
    cost_kwh,
    forecast,
    forward_rate,
    inference_tokens,
    rate_of,
)
from finetune.emissions.meter import Reading
from finetune.errors import FinetuneError
from finetune.runs.formats import energy, grams, significant
from finetune.training.disk import write_speed
from finetune.training.measure import measured_passes, reported_split
from finetune.training.workload import Workload, workload_of

if TYPE_CHECKING:
    from finetune.recipe.emissions_keys import Emissions
    from finetune.training.prepare import Prepared
    from finetune.training.progress import Progress
    from finetune.training.session import Session

FORECAST_SHARES = (0.1, 0.25, 0.5, 0.75)
_LOOK_SHARE = 0.01  # a look each hundredth of the time so far …
_LONGEST_S = 60.0  # … but one a minute
_COST_SHARE = 1e-3  # and looking takes less than a thousandth of the time
_WARM_UP_PART, _LONGEST_WARM_UP = 20, 20  # a twentieth of the steps, at most twenty
_LATEST = 3  # blocks; the one in the middle counts
_PROBE_SECONDS = 2.0
_NOTHING = Block(0.0, 0.0, 0.0)


@dataclass
class Outlook:
    """What rank 0 has seen of the costs of a run; the other ranks know `account` and `next_look` only.

    `account` is None without a budget and where no step is left that a budget could forbid.
    """

    session: Session
    workload: Workload
    budget: Budget
    evaluated_before: Block  # the untrained model's evaluation, or a probe
    warm_at: int = 1  # the step up to which this life warms up
    bytes_per_s: float = BYTES_PER_S  # of the disk, as long as nothing was saved
    account: Account | None = None
    next_look: int = 0
    words: str = ""
    _reading: Reading = field(default_factory=lambda: Reading(None, None, 0.0))
    _work: Work = field(default_factory=Work)
    _open: Block = _NOTHING
    _warm_up: Block = _NOTHING
    _largest_step: float = 0.0
    _tokens: int = 0
    _look_s: float = math.inf

    def start(self, progress: Progress) -> Account | None:
        """Look for the first time in this life of the run; raises FinetuneError for a budget that is too small."""
        self._reading, self._work = self.session.meter.glance(), self.workload.done(progress)
        self._tokens = progress.padded_tokens_seen
        rates = self._rates(progress)
        if not self.budget or rates is None or progress.step == self.workload.plan.total_steps:
            return None
        account = self._account(progress, rates, progress.step + 1)
        # A resumed run has something to save: it may end at once.
        least = replace(account, next_kwh=0.0) if progress.step else account
        if short := shortage(self.budget, least):
            raise _too_small(short, self._forecast(progress, rates), self._reading.pue)
        return account

    def after_step(self, progress: Progress) -> None:
        """Look at the meter where that is due, and make the forecasts of the record; all ranks come here each step."""
        self._largest_step = max(self._largest_step, progress.padded_tokens_seen - self._tokens)
        self._tokens = progress.padded_tokens_seen
        fixed = {self.warm_at, *forecast_steps(self.workload.plan.total_steps)}
        if progress.step >= self.next_look or progress.step in fixed:
            began = time.perf_counter()
            self.session.machines.share_energy(self.session.meter)
            self.next_look, self.account = ranks.on_main(lambda: self._look(progress, began))

    def no_room_for_inference(self, progress: Progress, split: str) -> str | None:
        """Return why the pass that measures the cost of an answer does not fit into the budget; all ranks ask."""
        if not self.budget:
            return None
        self.session.machines.share_energy(self.session.meter)
        return ranks.on_main(lambda: self._no_room(progress, split))

    def no_room_for_audit(self) -> str | None:
        """Return why the probes after training, taken to cost what those before did, do not fit; all ranks ask."""
        if not self.budget:
            return None
        self.session.machines.share_energy(self.session.meter)
        return ranks.on_main(self._no_room_for_audit)

    def _no_room_for_audit(self) -> str | None:
        reading = self.session.meter.glance()
        short = shortage(self.budget, _account(reading, _audit_kwh(reading), 0.0))
        if short is None:
            return None
        left = significant(max(0.0, short.budget - short.spent))
        return (
            f"the probes need about {significant(short.needed)} {short.unit}, and the {short.kind} budget leaves "
            f"{left} {short.unit}"
        )

    def _no_room(self, progress: Progress, split: str) -> str | None:
        reading, rates = self.session.meter.glance(), self._rates(progress)
        if rates is None:
            return None
        tokens = inference_tokens(self.workload.split_tokens[split], rates["evaluate"])
        work = Work(evaluate=tokens), Work(save=self.workload.model_bytes)
        short = shortage(self.budget, _account(reading, *(cost_kwh(part, rates) for part in work)))
        if short is None:
            return None
        left = significant(max(0.0, short.budget - short.spent))
        return (
            f"the cost of a prediction was not measured: that and saving the model need about "
            f"{significant(short.needed)} {short.unit}, and the {short.kind} budget leaves {left} {short.unit}"
        )

    def _look(self, progress: Progress, began: float) -> tuple[int, Account | None]:
        """Take in what was spent since the last look; return the step of the next one, and the account until then."""
        self._take_in(progress, self.session.meter.glance())
        self._look_s = min(self._look_s, time.perf_counter() - began)  # other programs may have made it longer
        total, rates = self.workload.plan.total_steps, self._rates(progress)
        if rates is None or self._reading.energy_kwh is None or progress.step == total:
            return total, None
        self._tell(progress, self._forecast(progress, rates))
        step_s = max(rates["train"].seconds * self.workload.step_tokens(progress), 1e-9)
        pause_s = min(_LONGEST_S, _LOOK_SHARE * self._reading.elapsed_s)
        pause_s = max(SHORTEST_BLOCK_S, pause_s, self._look_s / _COST_SHARE)
        steps = min(max(1, int(pause_s / step_s)), total - progress.step)
        if not self.budget:
            return progress.step + steps, None
        account = self._account(progress, rates, progress.step + steps)
        while steps > 1 and shortage(self.budget, account):  # near the end of the budget look more often
            steps //= 2
            account = self._account(progress, rates, progress.step + steps)
        return progress.step + steps, account

    def _take_in(self, progress: Progress, reading: Reading) -> None:
        """Book what each kind of work has cost since the last look."""
        work, before = self.workload.done(progress), self._reading
        for kind in KINDS:
            (spent_uj, time_us), (old_uj, old_us) = (r.phases.get(kind, (0, 0)) for r in (reading, before))
            units = getattr(work, kind) - getattr(self._work, kind)
            block = Block(units, (spent_uj - old_uj) / 1e6, (time_us - old_us) / 1e6)
            if kind == "train":
                self._take_in_steps(progress, block)
            elif units > 0:
                _keep(progress, kind, block)
        self._reading, self._work = reading, work

    def _take_in_steps(self, progress: Progress, block: Block) -> None:
        if progress.step <= self.warm_at:  # buffers are allocated, kernels made for each length of text
            self._warm_up += block
            return
        self._open += block
        if self._open.seconds >= SHORTEST_BLOCK_S:
            _keep(progress, "train", self._open)
            self._open = _NOTHING

    def _rates(self, progress: Progress) -> dict[str, Rate] | None:
        """Return what the work costs; for want of a block what was seen is the block begun, or the first steps."""
        found = {kind: rate_of(_blocks(progress, kind)) for kind in KINDS}
        first = [block for block in (self._open, self._warm_up) if block.units > 0][:1]
        found["train"] = found["train"] or rate_of(first)
        found["evaluate"] = found["evaluate"] or forward_rate(rate_of([self.evaluated_before]), found["train"])
        return complete_rates(found, self.bytes_per_s)

    def _account(self, progress: Progress, rates: Mapping[str, Rate], step: int) -> Account:
        """Return the account for going on up to a step, one of whose steps may be the largest of all.

        When training has become dearer lately, so has the rest; final scores cost what the first ones did.
        """
        latest = at_least(rates["train"], _blocks(progress, "train")[-_LATEST:])
        dearer = latest.joules / rates["train"].joules
        known = {**rates, "evaluate": at_least(rates["evaluate"], [self.evaluated_before])}
        cautious = {kind: rate.times((dearer,) * 3) for kind, rate in known.items()}
        mean, work = self.workload.step_tokens(progress), self.workload.until(progress, step)
        tokens = max(work.train, mean * (step - progress.step)) + max(0.0, self._largest_step - mean)
        left = replace(work, train=tokens), self.workload.stop()
        return _account(self._reading, *(cost_kwh(part, cautious) for part in left))

    def _forecast(self, progress: Progress, rates: Mapping[str, Rate]) -> Forecast:
        reading, tokens = self._reading, self.workload.split_tokens
        reported = tokens.get("test", tokens["validation"])
        inference = Work(evaluate=inference_tokens(reported, rates["evaluate"]))
        left = self.workload.until(progress, self.workload.plan.total_steps) + self.workload.ending() + inference
        audit_kwh, audit_s = _audit_kwh(reading), reading.phases.get("audit", (0, 0))[1] / 1e6  # it comes once more
        audit_g = audit_kwh * reading.pue * reading.g_per_kwh
        spent = Spent(
            (reading.energy_kwh or 0.0) + audit_kwh, (reading.emissions_g or 0.0) + audit_g, reading.elapsed_s + audit_s
        )
        return forecast(spent, left, rates, reading.pue * reading.g_per_kwh)

    def _tell(self, progress: Progress, found: Forecast) -> None:
        """Put a forecast into the words of the progress line and, at its fixed points, into the record."""
        spent = self._reading
        self.words = (
            f", {energy(spent.energy_kwh)} of about {energy(found.energy_kwh)}, "
            f"{grams(spent.emissions_g)} of {grams(found.emissions_g)} CO2e"
        )
        share = forecast_steps(self.workload.plan.total_steps).get(progress.step)
        if share is not None and not any(known["at_step"] == progress.step for known in progress.forecasts):
            values = {name.replace("energy_kwh_", ""): value for name, value in asdict(found).items()}
            progress.forecasts.append({"at_step": progress.step, "share": share, **values, "error": None})
            self.session.write()


def warm_up_steps(total_steps: int) -> int:
    """Return how many steps of a life are taken to cost more than those that follow."""
    return min(max(1, total_steps // _WARM_UP_PART), _LONGEST_WARM_UP)


def begin_outlook(prepared: Prepared, progress: Progress, session: Session) -> Outlook:
    """Return the outlook of a run before its first step, or before the first one after a resume.

    Raises FinetuneError for a limit where nothing is measured, and for a budget that is too small to end in order.
    """
    limits = prepared.recipe.emissions
    budget = Budget(limits.max_energy_kwh, limits.max_emissions_g)
    session.forecasts = progress.forecasts
    session.machines.share_energy(session.meter)
    ranks.on_main(lambda: _require_measurement(limits, session))
    workload = workload_of(prepared, session.directory)
    evaluated_before = _evaluated_before(prepared, progress, session, workload)
    warm_at = progress.step + warm_up_steps(prepared.plan.total_steps)
    bytes_per_s = ranks.on_main(lambda: write_speed(session.directory)) or BYTES_PER_S
    outlook = Outlook(session, workload, budget, evaluated_before, warm_at, bytes_per_s)
    outlook.account = ranks.on_main(lambda: outlook.start(progress))
    return outlook


def _require_measurement(limits: Emissions, session: Session) -> None:
    """Refuse limits on what nobody measures; say where part of it is not measured."""
    keys = [key for key in ("max_energy_kwh", "max_emissions_g", "max_g_per_point") if getattr(limits, key) is not None]
    if not keys:
        return
    section = session.meter.summary()
    unread = {name: part["detail"] for name, part in section["components"].items() if part["method"] is None}
    reasons = "; ".join(f"{name}: {detail}" for name, detail in unread.items())
    if section["energy_kwh"] is None:
        raise FinetuneError(
            f"emissions.{keys[0]}: no energy is measured here, so nothing can be kept within a limit ({reasons})",
            "finetune doctor says what can be measured; leave the limit out to train without one.",
        )
    if unread:
        say(f"note: emissions.{keys[0]} counts only what can be read, not {reasons}")


def _evaluated_before(prepared: Prepared, progress: Progress, session: Session, workload: Workload) -> Block:
    """Return what evaluating has cost before the first step: the untrained model's scores.

    For want of them, part of a split is evaluated where a budget must know the cost; all ranks come here.
    """
    limits, split = prepared.recipe.emissions, reported_split(prepared)
    if "untrained" in prepared.recipe.evaluation.baselines:
        spent_uj, time_us = session.meter.glance().phases.get("baseline", (0, 0))
        asking = [entry for entry in session.run.prompted.values() if entry["energy_kwh"] is not None]
        joules = max(0.0, spent_uj / 1e6 - sum(entry["energy_kwh"] * JOULES_PER_KWH for entry in asking))
        seconds = max(0.0, time_us / 1e6 - sum(entry["duration_s"] for entry in asking))
        return Block(workload.split_tokens[split] if spent_uj else 0, joules, seconds)
    has_budget = limits.max_energy_kwh is not None or limits.max_emissions_g is not None
    if not has_budget or progress.costs.get("evaluate"):
        return _NOTHING
    with session.phase("other"):
        passes = measured_passes(prepared, session, split, passes=1, seconds=_PROBE_SECONDS)
    return Block(passes.tokens, (passes.microjoules or 0) / 1e6, passes.duration_s)


def _too_small(short: Shortage, whole: Forecast, pue: float) -> FinetuneError:
    is_carbon = short.kind == "carbon"
    key = "max_emissions_g" if is_carbon else "max_energy_kwh"
    full = whole.emissions_g if is_carbon else whole.energy_kwh * pue
    spent, needed, least, full_words = (
        f"{significant(value)} {short.unit}" for value in (short.spent, short.needed, short.spent + short.needed, full)
    )
    return FinetuneError(
        f"emissions.{key}: {short.budget:g} {short.unit} is too little to score and save a model: {spent} are spent "
        f"already, and that needs about {needed} more",
        f"The least is about {least}; the whole run is forecast to take {full_words}.",
    )


def forecast_steps(total_steps: int) -> dict[int, float]:
    """Return the steps after which a forecast is recorded, each with its share of all steps."""
    steps: dict[int, float] = {}
    for share in FORECAST_SHARES:
        steps.setdefault(math.ceil(share * total_steps), share)
    return {step: share for step, share in steps.items() if step < total_steps}


def _account(reading: Reading, next_kwh: float, ending_kwh: float) -> Account:
    """Return the account of a reading and of the IT energy that is still to come."""
    return Account(
        spent_kwh=reading.facility_kwh or 0.0,
        spent_g=reading.emissions_g or 0.0,
        next_kwh=next_kwh * reading.pue,
        ending_kwh=ending_kwh * reading.pue,
        g_per_kwh=reading.g_per_kwh,
    )


def _audit_kwh(reading: Reading) -> float:
    return reading.phases.get("audit", (0, 0))[0] / MICROJOULES_PER_KWH


def _blocks(progress: Progress, kind: str) -> list[Block]:
    return [Block(*values) for values in progress.costs.get(kind, ())]


def _keep(progress: Progress, kind: str, block: Block) -> None:
    kept = progress.costs.setdefault(kind, [])
    kept.append((block.units, block.joules, block.seconds))
    del kept[:-KEPT_BLOCKS]
