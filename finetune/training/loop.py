"""The main flow of a run: run() → fit() → optimizer_steps(), each on one screen."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from finetune import ranks
from finetune.console import progress as show_progress
from finetune.console import say
from finetune.data.batching import micro_batches
from finetune.errors import FinetuneError
from finetune.runs.record import Run
from finetune.text import plural
from finetune.training.audits import audit_after, audit_before, open_audit
from finetune.training.batches import train_batches
from finetune.training.checkpoints import drop_old_checkpoints, load_best, save_best, save_checkpoint, whole_best
from finetune.training.disk import disk_estimate, require_room
from finetune.training.features import load_batch, record, start_training_mode
from finetune.training.finish import finish
from finetune.training.gradients import add_gradients, clip_gradients
from finetune.training.interrupts import Interrupted
from finetune.training.measure import baseline_scores, validation_scores
from finetune.training.options import Resumption, RunOptions, Trial
from finetune.training.outlook import Outlook, begin_outlook
from finetune.training.plan import Plan
from finetune.training.prepare import Prepared, better, prepare
from finetune.training.progress import Progress
from finetune.training.prompted import prompted_baselines
from finetune.training.random_state import take_random_state
from finetune.training.resume import identity, resume_into
from finetune.training.sections import first_sections, training_section
from finetune.training.session import Session, open_session
from finetune.training.sharding import gathered, gathered_model, to_be_filled, trained_parameters
from finetune.training.stopping import rules_of, stop_reason
from finetune.training.trackers import open_trackers


def run(options: RunOptions, resumption: Resumption | None = None) -> Run:
    """Carry out a recipe from the data to the saved model, and return its record.

    Raises FinetuneError for what the user can mend and Interrupted after a signal; in both cases the record is
    written and the meter closed.
    """
    recipe = options.recipe
    with open_session(options, resumption) as session:
        phase = session.phase
        prepared = prepare(recipe, phase, session.directory, smoke=options.smoke, with_test=options.trial is None)
        ranks.on_main(lambda: require_room(disk_estimate(prepared, session.directory), recipe.training))
        say_what_was_found(prepared)
        session.write(**first_sections(prepared, session.run.recipe))
        open_trackers(prepared, session.run.recipe)
        if not session.run.baselines:
            with phase("baseline"):
                scores = baseline_scores(prepared, session)
                asked, facts = prompted_baselines(prepared, session)
                session.write(baselines=scores | asked, prompted=facts)
        probes = open_audit(prepared, session) if options.trial is None else ()
        audit_before(prepared, session, probes, options.smoke)
        progress = resume_into(prepared, resumption, session.machines) if resumption else Progress()
        with session.interrupts.deferred():
            outlook = begin_outlook(prepared, progress, session)
            with phase("train"):
                reason = fit(prepared, progress, session, outlook, options.trial)
            try:
                best_step = progress.best_step if recipe.training.load_best_model_at_end else None
                if best_step is not None and best_step != progress.step:
                    put_best_back(prepared, best_step, session)
                finish(prepared, progress, session, outlook, reason)
                audit_after(prepared, session, probes, outlook)
            except Interrupted:
                # No step is left: the weights that are loaded now are those with which the resumed run will finish.
                save(prepared, progress, session, take_random_state())
                raise
    return session.run


def say_what_was_found(prepared: Prepared) -> None:
    """Tell before the first step how long the texts are, what is cut, how many steps there are, and every note."""
    encoded = prepared.encoded
    divided = f", {100 * encoded.divided_fraction:.1f} % read in parts" if encoded.divided_fraction else ""
    say(
        f"training rows: median {encoded.length_p50}, 95 % up to {encoded.length_p95}, longest {encoded.length_max} "
        f"tokens; {100 * encoded.truncated_fraction:.1f} % cut at {prepared.max_length}{divided}"
    )
    say(f"steps: {prepared.plan.total_steps:,} of {plural(prepared.plan.global_batch_size, 'row')}")
    for note in prepared.notes:
        say(f"note: {note}")


def fit(
    prepared: Prepared, progress: Progress, session: Session, outlook: Outlook, trial: Trial | None = None
) -> str | None:
    """Train to the end of the plan or until a rule stops it, and return that rule's reason.

    After each step: log, evaluate, keep the best, save a checkpoint, look at the meter, ask the stop rules and, of a
    trial, its sweep. A signal leaves a checkpoint of the last step border behind.
    """
    plan, rules = prepared.plan, rules_of(prepared.recipe, prepared.best_metric)
    border = take_random_state()
    with show_progress("training", plan.total_steps, progress.step) as advance:
        try:
            if progress.step and plan.evaluates_at(progress.step) and progress.evaluated_step != progress.step:
                evaluate(prepared, progress, session)
            reason = stop_reason(progress, rules, outlook.account) if progress.step else None
            if reason is None:
                progress.train_runtime_s += record(prepared, session, "train")
            for step in optimizer_steps(prepared, progress.step, session) if reason is None else ():
                progress.add_step(step.loss, step.rows, step.tokens, step.padded_tokens)
                progress.train_runtime_s += step.duration_s
                border = take_random_state()
                if plan.logs_at(progress.step):
                    log_step(prepared, progress, session, step)
                if plan.evaluates_at(progress.step):
                    evaluate(prepared, progress, session)
                if plan.saves_at(progress.step):
                    save(prepared, progress, session, border)
                outlook.after_step(progress)
                advance(progress.step, f"loss {step.loss:.4f}{outlook.words}")
                reason = stop_reason(progress, rules, outlook.account) or asked_to_stop(plan, progress, trial)
                if reason:
                    break
            if reason and plan.eval_every and progress.evaluated_step != progress.step:
                evaluate(prepared, progress, session)  # the weights of this moment may be the best
        except Interrupted:
            save(prepared, progress, session, border)
            raise
    return reason


def asked_to_stop(plan: Plan, progress: Progress, trial: Trial | None) -> str | None:
    """Ask the sweep of a trial after an evaluation whether to go on, and return why not."""
    ask = trial.ask if trial is not None else None
    if ask is None or progress.evaluated_step != progress.step or progress.step == plan.total_steps:
        return None
    return ranks.on_main(lambda: ask(len(progress.timeline), progress.timeline[-1]))


@dataclass(frozen=True)
class Step:
    """One optimizer update: its mean loss over all rows of the global batch, and what it took."""

    loss: float
    grad_norm: float
    learning_rate: float
    rows: int
    tokens: int
    padded_tokens: int
    duration_s: float


def optimizer_steps(prepared: Prepared, start: int, session: Session) -> Iterator[Step]:
    """Yield after each optimizer update from step `start` on: the mathematics alone.

    The loss is divided by the weight of the whole global batch (all micro-batches of all ranks), so any way of
    cutting a batch gives the same update.
    """
    accelerator = prepared.accelerator
    trained = trained_parameters(prepared.model, prepared.optimizer, prepared.frame)
    for step, source, batch, tokens in train_batches(prepared, start):
        began = time.perf_counter()
        if prepared.unfreezing:
            prepared.unfreezing.before(step)
        micros = [
            (load_batch(prepared, "train", source, rows, step), counts)
            for rows, counts in micro_batches(batch, prepared.rows_at_once, ranks.rank(), ranks.size())
        ]
        start_training_mode(prepared)
        weight = accelerator.reduce(sum(loss_weight(prepared, micro) * counts for micro, counts in micros))
        weight = weight + (weight == 0)  # a batch without a label that counts: its loss is 0
        loss_sum = add_gradients(prepared, micros, weight, session)
        mean_loss = float(accelerator.reduce(loss_sum))
        grad_norm = clip_gradients(prepared, trained)
        require_finite(mean_loss, grad_norm, step, prepared)
        learning_rate = prepared.schedule.get_last_lr()[0]
        prepared.optimizer.step()
        prepared.schedule.step()
        prepared.optimizer.zero_grad()
        yield Step(mean_loss, grad_norm, learning_rate, len(batch), *tokens, time.perf_counter() - began)


def loss_weight(prepared: Prepared, micro: dict[str, Any]) -> Any:
    """Return what the summed loss of a micro-batch counts."""
    return prepared.task.loss_weight(micro, prepared.context)


def require_finite(loss: float, grad_norm: float, step: int, prepared: Prepared) -> None:
    """Stop at once when the training has blown up; raises FinetuneError with the step and the likely cause."""
    scaled = prepared.hardware.mixed_precision == "fp16"  # there an overflowing gradient is skipped by the scaler
    if math.isfinite(loss) and (scaled or math.isfinite(grad_norm)):
        return
    training = prepared.recipe.training
    what = "gradient" if math.isfinite(loss) else "loss"
    raise FinetuneError(
        f"step {step}: the {what} is not a finite number (loss {loss}, gradient norm {grad_norm}); "
        f"most likely training.learning_rate {training.learning_rate:g} is too high",
        f"Try training.learning_rate={training.learning_rate / 10:g}"
        + ("." if prepared.hardware.mixed_precision == "no" else ", or training.mixed_precision=no."),
    )


def log_step(prepared: Prepared, progress: Progress, session: Session, step: Step) -> None:
    """Write one line of the log, to the file and to the trackers."""
    entry = {
        "step": progress.step,
        "epoch": prepared.plan.epoch_at(progress.step),
        "loss": progress.take_logged_loss(),
        "learning_rate": step.learning_rate,
        "grad_norm": step.grad_norm,
        "rows_per_second": progress.rows_seen / max(progress.train_runtime_s, 1e-9),
    }
    session.log(**entry)
    prepared.accelerator.log(entry, step=progress.step)


def evaluate(prepared: Prepared, progress: Progress, session: Session) -> None:
    """Score the validation split, add a point to the timeline, and keep the weights when they are the best so far."""
    with session.phase("evaluate"):
        scores = validation_scores(prepared, session)
    reading = session.mark()
    values = {name: entry["value"] for name, entry in scores.items()}
    point = {
        "step": progress.step,
        "epoch": prepared.plan.epoch_at(progress.step),
        "energy_kwh": reading.energy_kwh,
        "emissions_g": reading.emissions_g,
        "elapsed_s": reading.elapsed_s,
        "metrics": values,
    }
    progress.timeline.append(point)
    session.log(**point)
    prepared.accelerator.log({f"validation_{name}": value for name, value in values.items()}, step=progress.step)
    if prepared.best_metric not in values:
        raise FinetuneError(
            f"training.metric_for_best_model: {prepared.best_metric} gives several values: {', '.join(values)}",
            "Choose the best model by a metric that gives one value.",
        )
    is_best = progress.add_evaluation(values[prepared.best_metric], better(prepared))
    if is_best and prepared.recipe.training.load_best_model_at_end:
        with session.phase("save"):
            whole = gathered_model(prepared.bare_model, prepared.frame)
            ranks.on_main(lambda: save_best(session.directory, progress.step, whole))
        progress.best_saves += 1
    session.write(timeline=tuple(progress.timeline), training=training_section(prepared, progress))


def put_best_back(prepared: Prepared, step: int, session: Session) -> None:
    """Give the model the weights of the best evaluation, that after a step."""
    folder = ranks.on_main(lambda: whole_best(session.directory, step))
    with session.machines.at_hand(folder), to_be_filled(prepared.trainable, prepared.frame) as whole:
        load_best(folder, whole.model)


def save(prepared: Prepared, progress: Progress, session: Session, border: dict[str, Any]) -> None:
    """Write a checkpoint of the last step border with its random state, and drop the oldest ones."""
    progress.checkpoint_saves += 1
    with session.phase("save"):
        if ranks.is_main():
            session.flush_log()
        state = {**identity(prepared), "progress": progress.to_json(), "energy_uj": session.mark().nodes_uj}
        borders = ranks.gather(border)
        whole = gathered(prepared.trainable, prepared.frame)
        ranks.on_main(lambda: save_checkpoint(session.directory, progress.step, whole, state, borders))
        if ranks.is_main():
            drop_old_checkpoints(session.directory, prepared.recipe.training.save_total_limit)
