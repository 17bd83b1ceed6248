"""The YAML head of the model card, which the Hub reads: only what is known."""

import re
from collections.abc import Mapping
from typing import Any

from finetune.runs.comparison import component_methods
from finetune.runs.record import Run, Score, as_mapping, as_number, as_sections
from finetune.text import plural

_AVERAGED = re.compile(r"(f1|precision|recall)_(macro|micro|weighted)")
_HUB_NAMES = {"pearson": "pearsonr", "spearman": "spearmanr"}


def card_metadata(run: Run, is_adapter: bool = False) -> dict[str, Any]:
    """Return the YAML head of the card: only what is known; `is_adapter` says that only the run's adapter is there."""
    is_new = run.model.get("init") == "scratch"  # random weights come from no model
    base, data = hub_id(run.model, "name_or_path"), hub_id(run.dataset, "path")
    task = run.recipe.get("task")
    head = {
        "language": languages(run),
        "license": licence(run),
        "library_name": "peft" if is_adapter else "transformers",
        "pipeline_tag": task,
        "base_model": None if is_new else base,
        "base_model_relation": None if is_new or not base else "adapter" if is_adapter else "finetune",
        "datasets": [data] if data else None,
        "tags": ["finetune", *run.tags],
        "metrics": list(dict.fromkeys(_hub_metric(name) for split in scores_by_split(run).values() for name in split)),
        "co2_eq_emissions": _co2(run),
        "model-index": _model_index(run, str(task)),
    }
    return {key: value for key, value in head.items() if value}


def licence(run: Run) -> str | None:
    """Return the licence that the recipe states, else that of the checkpoint's own card; None where neither does."""
    stated = _hub_settings(run).get("license")
    if stated is None and run.model.get("init") != "scratch":
        stated = run.model.get("license")
    return stated if isinstance(stated, str) else None


def languages(run: Run) -> list[str]:
    """Return the languages that the recipe states, else those of the dataset's card, else of the checkpoint's."""
    of_checkpoint = None if run.model.get("init") == "scratch" else run.model.get("language")
    stated = _hub_settings(run).get("language") or run.dataset.get("language") or of_checkpoint
    return [str(entry) for entry in ([stated] if isinstance(stated, str) else stated or [])]


def _hub_settings(run: Run) -> Mapping[str, Any]:
    return as_mapping(run.recipe.get("hub"))


def _hub_metric(name: str) -> str:
    """Return the id under which the Hub knows a metric: f1 for f1_macro."""
    averaged = _AVERAGED.fullmatch(name)
    return averaged[1] if averaged else _HUB_NAMES.get(name, name)


def hub_id(section: Mapping[str, Any], key: str) -> str | None:
    """Return the name of a model or dataset when it came from the Hub, None for files and packages."""
    name = section.get(key)
    # Only what came from the Hub has a resolved commit.
    if not isinstance(name, str) or not section.get("revision"):
        return None
    return name if re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)?", name) else None


def public_name(section: Mapping[str, Any], key: str) -> str:
    """Return a name that says nothing about the machine: the Hub's, the package's, or the last part of a path."""
    name = str(section.get(key) or "unnamed")
    if hub_id(section, key) or name.startswith("package:"):
        return name
    return re.split(r"[/\\]", name.rstrip("/\\"))[-1]


def _co2(run: Run) -> dict[str, Any] | None:
    grams = run.emissions_g()
    if grams is None:
        return None
    tool = as_mapping(run.emissions.get("tool"))
    source = f"{tool.get('name') or 'codecarbon'} {tool.get('version') or ''}".strip()
    how = ", ".join(f"{name} {method}" for name, method in component_methods(run).items())
    if not run.is_complete:
        how += "; a lower bound"
    return {
        "emissions": _card_grams(grams),
        "source": f"{source} ({how})" if how else source,
        "training_type": "fine-tuning" if run.model.get("init") != "scratch" else "training from scratch",
        "geographical_location": _place(run),
        "hardware_used": hardware_words(run),
    }


def _card_grams(grams: float) -> float | str:
    """Return grams so that the Hub's filter, which reads the first plain number of the text, takes the right one.

    Python writes numbers below 0.0001 with an exponent, of which the filter would take the front: they become text.
    """
    rounded = float(f"{grams:.6g}")
    return rounded if rounded == 0 or rounded >= 1e-4 else f"{rounded:.15f}".rstrip("0")


def _place(run: Run) -> str:
    stated = as_mapping(run.emissions.get("carbon_intensity"))
    place, known_from = stated.get("location"), stated.get("known_from")
    if not place:
        return "unknown (world average)" if known_from == "assumed" else "unknown"
    return f"{place} (inferred from the time zone)" if known_from == "inferred" else str(place)


def hardware_words(run: Run) -> str:
    """Return the devices that the run used."""
    processes = as_number(run.hardware.get("num_processes")) or 1
    name = str(run.hardware.get("device_name") or run.hardware.get("device") or "unknown")
    if run.hardware.get("device") == "cpu":
        threads = as_number(run.hardware.get("threads"))
        return f"{name}, {plural(int(threads), 'thread')}" if threads else name
    return f"{processes:.0f} x {name}"


def _model_index(run: Run, task: str) -> list[dict[str, Any]]:
    results = [
        {
            "task": {"type": task},
            "dataset": {
                "name": public_name(run.dataset, "path"),
                "type": hub_id(run.dataset, "path") or public_name(run.dataset, "path"),
                **({"config": run.dataset["name"]} if run.dataset.get("name") else {}),
                "split": split,
                **({"revision": run.dataset["revision"]} if run.dataset.get("revision") else {}),
            },
            "metrics": [
                {
                    "type": _hub_metric(name),
                    "value": round(score.value, 6),
                    "name": name.replace("_", " "),
                    **({"args": {"average": found[2]}} if (found := _AVERAGED.fullmatch(name)) else {}),
                }
                for name, score in scores.items()
            ],
        }
        for split, scores in scores_by_split(run).items()
        if scores
    ]
    return [{"name": run.name, "results": results}] if results else []


def scores_by_split(run: Run) -> dict[str, dict[str, Score]]:
    """Return the scores that have a value, by split and metric."""
    return {
        split: {name: score for name, value in scores.items() if (score := Score.from_json(value)) is not None}
        for split, scores in as_sections(run.metrics).items()
    }
