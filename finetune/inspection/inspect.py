"""finetune inspect: all that is known about a checkpoint, put together."""

from __future__ import annotations

import shlex
import socket
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from finetune.inspection.anatomy import Settings, Stack, context_of, kind_of, stacks_of, takes_text_alone, vocabulary_of
from finetune.inspection.costs import LORA_RANK, ROWS, TOKENS, memory_of, operations_of, past_energy
from finetune.inspection.families import find_family
from finetune.inspection.fits import fitting_recipes, fitting_tasks
from finetune.inspection.masks import Mask, masks_of
from finetune.inspection.source import Source, open_source
from finetune.inspection.weights import Weights
from finetune.package_paths import is_package_path
from finetune.runs.record import Run, list_runs

Section = dict[str, Any]


@dataclass(frozen=True)
class Inspection:
    """A checkpoint as its configuration and the header of its weights tell it."""

    source: Source
    settings: Settings
    kind: str | None
    why_none: str | None
    stacks: tuple[Stack, ...]
    masks: tuple[Mask, ...]

    @property
    def takes_text_alone(self) -> bool:
        """Tell whether the model takes tokens and nothing else, so that it can be tried with some."""
        return self.kind is not None or takes_text_alone(self.settings)


def inspect_checkpoint(reference: str, output_dir: Path, revision: str | None = None) -> Inspection:
    """Read what is light of a checkpoint; raises FinetuneError when there is none of that name."""
    source = open_source(reference, output_dir, revision)
    settings = Settings(source.config, find_family(source.config["model_type"]))
    kind, why_none = kind_of(settings)
    stacks = stacks_of(settings, kind)
    return Inspection(source, settings, kind, why_none, stacks, masks_of(settings, kind, stacks))


def as_json(found: Inspection, output_dir: Path) -> Section:
    """Return an inspection as `finetune inspect --json` prints it; null is what is not known."""
    source, settings, weights = found.source, found.settings, found.source.weights
    tasks = fitting_tasks(settings.family, found.kind)
    runs = list_runs(output_dir)[0] if output_dir.is_dir() else ()
    energy = past_energy(runs, _names(source, runs), socket.gethostname())
    recipes = fitting_recipes(tasks, _as_recipes_name_it(source))
    return {
        "checkpoint": source.reference,
        "revision": source.revision,
        "model_type": settings.family.model_type,
        "kind": found.kind,
        "why_none": found.why_none,
        "architectures": list(settings.config.get("architectures") or []),
        "stacks": [asdict(stack) for stack in found.stacks],
        "vocabulary_size": vocabulary_of(settings),
        "context_tokens": context_of(settings),
        "parameters": _parameters(weights),
        "size_bytes": weights.size_bytes if weights else None,
        "dtypes": list(weights.dtypes) if weights else None,
        "tied_weights": _tied(settings, weights),
        "attention": [{**asdict(mask), "words": mask.words} for mask in found.masks],
        "tasks": tasks,
        "recipes": recipes,
        "memory": {
            "assumes": {"rows": ROWS, "tokens": TOKENS, "lora_rank": LORA_RANK, "dtype": "float32", "optim": "AdamW"},
            **(memory_of(weights, found.stacks) if weights and found.kind else dict.fromkeys(_WAYS)),
        },
        "operations_per_token": (
            operations_of(weights, found.stacks, settings, found.kind) if weights and found.kind else None
        ),
        "joules_per_token": energy,
        "probe": None,
        "heads": None,
        "notes": list(source.notes),
        "next": recipes[0]["command"] if recipes else f"finetune inspect {shlex.quote(source.reference)} --probe",
    }


_WAYS = ("full", "frozen_backbone", "lora")


def _names(source: Source, runs: Iterable[Run]) -> Sequence[str]:
    """Return the names under which past runs may have trained this checkpoint, or made it."""
    made = [run for run in runs if run.directory is not None and (run.directory / "model").exists()]
    own = [run for run in made if run.directory and (run.directory / "model").resolve() == Path(source.place).resolve()]
    return [source.reference, source.place, *(str(run.model.get("name_or_path")) for run in own)]


def _as_recipes_name_it(source: Source) -> str:
    """Return what a recipe calls the checkpoint: a recipe knows folders, packages and the hub, but no runs."""
    return source.reference if is_package_path(source.reference) else source.place


def _parameters(weights: Weights | None) -> Section | None:
    if weights is None:
        return None
    embedding = weights.embedding_parameters
    return {"total": weights.parameters, "embedding": embedding, "rest": weights.parameters - embedding}


def _tied(settings: Settings, weights: Weights | None) -> bool | None:
    """Tell whether the embeddings serve as the layer back to tokens too."""
    said = settings.get("tie_word_embeddings")
    if said is not None:
        return bool(said)
    predicts = any(
        name.endswith(("LMHeadModel", "ForCausalLM", "ForMaskedLM", "ForConditionalGeneration"))
        for name in settings.config.get("architectures") or []
    )
    return not weights.has_output if weights and predicts else None
