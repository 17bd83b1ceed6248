"""What the shell offers after Tab: shipped recipes and sweeps, and the runs of the folder."""

import glob
import os
from pathlib import Path

import typer


def complete_recipe(incomplete: str) -> list[str]:
    """Return the shipped recipes, and the recipe files here, that begin so."""
    from finetune.recipe.shipped import shipped_recipes

    return [name for name in (*_files(), *shipped_recipes()) if name.startswith(incomplete)]


def complete_shipped(incomplete: str) -> list[str]:
    """Return the shipped recipes that begin so."""
    from finetune.recipe.shipped import shipped_recipes

    return [name for name in shipped_recipes() if name.startswith(incomplete)]


def complete_evaluated(context: typer.Context, incomplete: str) -> list[str]:
    """Return recipes where --zero-shot or --few-shot ask a checkpoint, else runs."""
    asks = context.params.get("zero_shot") or context.params.get("few_shot") is not None
    return complete_recipe(incomplete) if asks else complete_run(context, incomplete)


def complete_sweep(incomplete: str) -> list[str]:
    """Return the shipped sweeps, and the files here that may be one, that begin so."""
    from finetune.recipe.shipped import shipped_sweeps

    return [name for name in (*_files(), *shipped_sweeps()) if name.startswith(incomplete)]


def complete_study(incomplete: str) -> list[str]:
    """Return the shipped studies, and the files here that may be one, that begin so."""
    from finetune.recipe.shipped import shipped_studies

    return [name for name in (*_files(), *shipped_studies()) if name.startswith(incomplete)]


def complete_run(context: typer.Context, incomplete: str) -> list[str]:
    """Return the ids of the runs in the folder that the command would read, the newest first."""
    folder = Path(context.params.get("output_dir") or os.environ.get("FINETUNE_OUTPUT_DIR") or "runs")
    records = folder.glob(f"{glob.escape(incomplete)}*/run.json") if folder.is_dir() else ()
    names = (path.parent.name for path in records)
    return sorted(names, key=lambda name: name.split("-")[-2:], reverse=True)  # …-<date and time>-<random>


def _files() -> list[str]:
    return sorted(path.name for pattern in ("*.yaml", "*.yml") for path in Path().glob(pattern))
