"""Several seeds of one recipe: an ordinary run for each, one after the other, with one group in their records.

Each run has processes of its own. What happens to one (out of memory, killed) leaves the others alone, several
processes a run are started as for any run, and this process stays without torch.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from finetune import ranks
from finetune.console import say
from finetune.errors import FinetuneError
from finetune.recipe.load import LoadedRecipe
from finetune.recipe.schema import Recipe
from finetune.runs.record import Run, as_mapping, list_runs, new_run_id
from finetune.runs.seed_report import print_seeds
from finetune.runs.usable import require_ended
from finetune.text import join_words, plural
from finetune.training.interrupts import interruption
from finetune.training.launch import launch_until_told
from finetune.training.recorded import changed_keys, recipe_as_recorded
from finetune.training.words import Request, member_command, read_words, recipe_name

_OF_ONE_RUN = ("training.seed", "training.seeds")


@dataclass(frozen=True)
class Seeds:
    """The seeds that a command is about, their group, and the runs that are already there, by seed."""

    group: str
    seeds: tuple[int, ...]
    output_dir: Path
    begun: Mapping[int, Run] = field(default_factory=dict)


def run_each_seed(request: Request, as_json: bool) -> int | None:
    """Train each of the recipe's `training.seeds` and return the exit code; None: the recipe has none.

    With `resume` finished seeds are left as they are, unfinished ones go on, and those that are missing are made. A
    seed that fails leaves the others to be trained, unless it fails before its training: the others would as well. The
    exit code is that of the first seed that failed; a signal ends all. Raises FinetuneError.
    """
    if request.dry_run or request.smoke or ranks.are_launched():
        return None
    loaded, reference = read_words(request)
    if loaded is None or loaded.recipe.training.seeds is None:
        return None
    asked = _unfinished_group(loaded.recipe, reference) if request.resume else _new_group(loaded, request)
    code = _train(asked, request, shows_result=not as_json)
    print_seeds(asked.group, asked.seeds, tuple(_runs_of(asked).values()), as_json)
    return code


def _train(asked: Seeds, request: Request, shows_result: bool) -> int:
    codes: list[int] = []
    waiting = [seed for seed in asked.seeds if seed not in asked.begun or not asked.begun[seed].is_finished]
    for number, seed in enumerate(waiting):
        say(f"seed {seed} ({asked.seeds.index(seed) + 1} of {len(asked.seeds)})")
        words, options = _command(asked, seed, request)
        code, signum = launch_until_told(words, options, request.processes, shows_result)
        codes.append(code)
        left = waiting[number + 1 :]
        ended_by_signal = interruption(code, signum)
        if ended_by_signal is not None:
            say(_go_on(request, [seed, *left] if code else left))
            return ended_by_signal
        if code and left and not ((run := _runs_of(asked).get(seed)) and run.has_trained):
            say(f"seed {seed} failed before its training began, and the others would as well: "
                f"{plural(len(left), 'seed')} left out")  # fmt: skip
            break
    failed = next((code for code in codes if code), 0)
    if failed:
        say(_go_on(request, [seed for seed in asked.seeds if not _is_finished(_runs_of(asked).get(seed))]))
    return failed


def _command(asked: Seeds, seed: int, request: Request) -> tuple[list[str], dict[str, object]]:
    """Return the words and options of the command that trains one seed."""
    recipe = next(word for word in request.words if "=" not in word)
    settings = [word for word in request.words if "=" in word and word.partition("=")[0] not in _OF_ONE_RUN]
    return member_command(recipe, settings, seed, asked.group, asked.begun.get(seed), request)


def _new_group(loaded: LoadedRecipe, request: Request) -> Seeds:
    seeds = tuple(loaded.recipe.training.seeds or ())
    return Seeds(request.group or new_run_id(recipe_name(loaded)), seeds, Path(loaded.recipe.output_dir))


def _unfinished_group(recipe: Recipe, reference: str | None) -> Seeds:
    """Return the newest group of the recipe's seeds that is not finished, or the one that a run or group id names."""
    output_dir, seeds = Path(recipe.output_dir), tuple(recipe.training.seeds or ())
    groups: dict[str, dict[int, Run]] = defaultdict(dict)
    for run in list_runs(output_dir)[0] if output_dir.is_dir() else ():
        seed = _seed_of(run)
        if run.group is not None and seed in seeds and not _changes(run, recipe):
            groups[run.group][seed] = run  # the newest, where a seed was begun twice
    chosen = [
        group for group, runs in groups.items()
        if reference in (None, group, *(part for run in runs.values() for part in _names(run)))
        and not all(_is_finished(runs.get(seed)) for seed in seeds)
    ]  # fmt: skip
    if not chosen:
        named = f" that {reference} belongs to" if reference else ""
        raise FinetuneError(
            f"no unfinished group of runs with the seeds {join_words([str(seed) for seed in seeds], 'and')} of this "
            f"recipe{named} in {output_dir}",
            "finetune list shows the runs; without --resume all seeds are started anew.",
        )
    newest = max(chosen, key=lambda group: max(run.created_at or "" for run in groups[group].values()))
    for run in groups[newest].values():
        if not run.is_finished:
            require_ended(run)
    return Seeds(newest, seeds, output_dir, groups[newest])


def _runs_of(asked: Seeds) -> dict[int, Run]:
    """Return the newest run of each seed of the group, as their records stand."""
    found = list_runs(asked.output_dir)[0] if asked.output_dir.is_dir() else ()
    runs = {seed: run for run in found if run.group == asked.group and (seed := _seed_of(run)) is not None}
    return {seed: runs[seed] for seed in asked.seeds if seed in runs}


def _changes(run: Run, recipe: Recipe) -> list[str]:
    now = recipe_as_recorded(recipe, run.directory or Path(recipe.output_dir))
    return [key for key in changed_keys(run.recipe, now) if key not in _OF_ONE_RUN]


def _seed_of(run: Run) -> int | None:
    seed = as_mapping(run.recipe.get("training")).get("seed")
    return seed if isinstance(seed, int) else None


def _names(run: Run) -> tuple[str, ...]:
    return run.run_id, run.short_id, str(run.directory)


def _is_finished(run: Run | None) -> bool:
    return run is not None and run.is_finished


def _go_on(request: Request, seeds: Sequence[int]) -> str:
    if not seeds:
        return "all seeds are finished"
    command = " ".join(["finetune run", *request.words[:1], "--resume", *request.words[1:]])
    if request.output_dir is not None:
        command += f" --output-dir {request.output_dir}"
    if request.processes:
        command += f" --num-processes {request.processes}"
    return f"not finished: seed {join_words([str(seed) for seed in seeds], 'and')}. Continue with: {command}"
