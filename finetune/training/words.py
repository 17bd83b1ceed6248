"""The words of a `finetune run` command: which recipe, which settings, which run to resume. Light."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from finetune.console import say
from finetune.emissions.budget import Budget
from finetune.errors import FinetuneError
from finetune.hub import go_offline_if_unreachable
from finetune.recipe.load import LoadedRecipe, load_recipe
from finetune.recipe.paths import hub_references
from finetune.recipe.shipped import shipped_recipes
from finetune.runs.record import Run
from finetune.training.options import Trial


@dataclass(frozen=True)
class Request:
    """What the command line asks for; `words` are its arguments: recipe, key=value settings, a run to resume."""

    words: Sequence[str]
    resume: bool = False
    dry_run: bool = False
    smoke: bool = False
    country: str | None = None
    region: str | None = None
    output_dir: Path | None = None
    num_processes: int | None = None
    idle_baseline_s: float | None = None
    budget: Budget = field(default_factory=Budget)
    group: str | None = None
    trial: Trial | None = None

    @property
    def processes(self) -> int | None:
        """Return how many processes are to work together, None for one alone."""
        return self.num_processes if self.num_processes != 1 else None

    def options(self) -> dict[str, object]:
        """Return the options that a process which works on this request is started with, by their names."""
        energy_kwh, emissions_g = self.budget.energy_kwh, self.budget.emissions_g
        return {
            "resume": self.resume,
            "smoke": self.smoke,
            "country": self.country,
            "region": self.region,
            "output-dir": self.output_dir,
            "idle-baseline": self.idle_baseline_s,
            "max-energy": None if energy_kwh is None else f"{energy_kwh!r}kWh",
            "max-emissions": None if emissions_g is None else f"{emissions_g!r}g",
            "group": self.group,
        }


def member_command(
    recipe: str, settings: Sequence[str], seed: int, group: str, run: Run | None, request: Request
) -> tuple[list[str], dict[str, object]]:
    """Return the words and options of the command that starts a run of a group, or continues `run`."""
    resumed = [str(run.directory)] if run is not None else []
    words = [recipe, *resumed, *settings, *seed_settings(seed)]
    return words, replace(request, resume=run is not None, group=None if run is not None else group).options()


def seed_settings(seed: int) -> list[str]:
    """Return what a run of a group sets in the recipe to have one seed, as a command line has it."""
    return ["training.seeds=null", f"training.seed={seed}"]


def read_words(request: Request) -> tuple[LoadedRecipe | None, str | None]:
    """Tell recipe, settings and run apart; with --resume, a word more (or the only one that is no recipe) is a run.

    Raises FinetuneError when there are too many words, or for what is wrong with the recipe.
    """
    overrides = [word for word in request.words if "=" in word]
    if request.output_dir is not None:
        overrides.append(f"output_dir={request.output_dir}")
    names = [word for word in request.words if "=" not in word]
    if len(names) > 1 + request.resume:
        raise FinetuneError(
            f"more than one recipe: {' '.join(names)}", "A setting is written key=value, without spaces around the =."
        )
    reference = names[1] if len(names) == 2 else None
    if request.resume and len(names) == 1 and not _names_a_recipe(names[0]):
        names, reference = [], names[0]
    return (load_recipe(names[0], overrides) if names else None), reference


def recipe_name(loaded: LoadedRecipe) -> str:
    """Return what the runs of a recipe are called."""
    return loaded.recipe.name or (loaded.path.stem if loaded.path else loaded.recipe.task)


def tell(loaded: LoadedRecipe) -> None:
    """Say what reading the recipe brought up, and go offline when the hub it names does not answer."""
    for note in loaded.notes:
        say(f"note: {note}")
    if unreachable := go_offline_if_unreachable(hub_references(loaded.recipe)):
        say(f"note: {unreachable}")


def _names_a_recipe(word: str) -> bool:
    return word in shipped_recipes() or word.endswith((".yaml", ".yml")) or Path(word).is_file()
