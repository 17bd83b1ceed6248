"""The model card: README.md of the saved model, with the metadata that the Hub reads."""

import re
from collections.abc import Mapping
from typing import Any

from finetune.runs import formats
from finetune.runs.comparison import component_methods
from finetune.runs.record import Run, Score, as_number, run_from_json, run_to_json
from finetune.runs.report import BASELINE_WORDS, baseline_score, intensity_source, intensity_words
from finetune.runs.tables import Column, markdown_cell, markdown_table
from finetune.text import plural


def model_card(run: Run) -> str:
    """Return the model card of a finished run.

    Text from the recipe and the data is escaped; home paths and tokens are taken out. Metadata: the Hub's model-cards
    and model-cards-co2 documentation.
    """
    import yaml

    run = run_from_json(run_to_json(run))
    metadata = yaml.safe_dump(card_metadata(run), sort_keys=False, allow_unicode=True, width=10_000)
    sections = [f"# {markdown_cell(run.name)}", _about(run), _data(run), _scores(run), _energy(run), _usage(run)]
    return f"---\n{metadata}---\n\n" + "\n\n".join(section for section in sections if section) + "\n"


def card_metadata(run: Run) -> dict[str, Any]:
    """Return the YAML head of the card: only what is known."""
    base, data = hub_id(run.model, "name_or_path"), hub_id(run.dataset, "path")
    task = run.recipe.get("task")
    head = {
        "library_name": "transformers",
        "pipeline_tag": task,
        "base_model": base,
        "datasets": [data] if data else None,
        "tags": ["finetune", *run.tags],
        "metrics": list(dict.fromkeys(name for split in _splits(run).values() for name in split)),
        "co2_eq_emissions": _co2(run),
        "model-index": _model_index(run, str(task)),
    }
    return {key: value for key, value in head.items() if value}


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
    tool = run.emissions.get("tool")
    named = tool if isinstance(tool, Mapping) else {}
    source = f"{named.get('name') or 'codecarbon'} {named.get('version') or ''}".strip()
    how = ", ".join(f"{name} {method}" for name, method in component_methods(run).items())
    if run.emissions.get("complete") is not True:
        how += "; a lower bound"
    return {
        "emissions": _card_grams(grams),
        "source": f"{source} ({how})" if how else source,
        "training_type": "fine-tuning" if run.model.get("init") != "scratch" else "training from scratch",
        "geographical_location": _place(run),
        "hardware_used": _hardware(run),
    }


def _card_grams(grams: float) -> float | str:
    """Return grams so that the Hub's filter, which reads the first plain number of the text, takes the right one.

    Python writes numbers below 0.0001 with an exponent, of which the filter would take the front: they become text.
    """
    rounded = float(f"{grams:.6g}")
    return rounded if rounded == 0 or rounded >= 1e-4 else f"{rounded:.15f}".rstrip("0")


def _place(run: Run) -> str:
    intensity = run.emissions.get("carbon_intensity")
    stated = intensity if isinstance(intensity, Mapping) else {}
    place, known_from = stated.get("location"), stated.get("known_from")
    if not place:
        return "unknown (world average)" if known_from == "assumed" else "unknown"
    return f"{place} (inferred from the time zone)" if known_from == "inferred" else str(place)


def _hardware(run: Run) -> str:
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
                {"type": name, "value": round(score.value, 6), "name": name.replace("_", " ")}
                for name, score in scores.items()
            ],
        }
        for split, scores in _splits(run).items()
        if scores
    ]
    return [{"name": run.name, "results": results}] if results else []


def _splits(run: Run) -> dict[str, dict[str, Score]]:
    return {
        split: {name: score for name, value in scores.items() if (score := Score.from_json(value)) is not None}
        for split, scores in run.metrics.items()
        if isinstance(scores, Mapping)
    }


def _about(run: Run) -> str:
    model = run.model
    base = markdown_cell(public_name(model, "name_or_path"))
    verb = "has the architecture of" if model.get("init") == "scratch" else "is"
    start = "trained from random weights (the control experiment)" if model.get("init") == "scratch" else "fine-tuned"
    count = as_number(model.get("parameters"))
    size = f" It has {count:,.0f} parameters." if count is not None else ""
    recipe_training = run.recipe.get("training")
    settings = recipe_training if isinstance(recipe_training, Mapping) else {}
    shown = ("num_train_epochs", "learning_rate", "per_device_train_batch_size", "seed")
    stated = ", ".join(f"{key} {settings[key]:g}" for key in shown if as_number(settings.get(key)) is not None)
    return (
        f"This model {verb} {base}, {start} for {markdown_cell(str(run.recipe.get('task') or 'its task'))} with "
        f"`finetune`.{size}"
        + (f" Settings: {markdown_cell(stated)}." if stated else "")
        + " Its languages are those of the checkpoint and the data below; finetune does not detect them."
    )


def _data(run: Run) -> str:
    data, rows, labels = run.dataset, run.dataset.get("rows"), run.dataset.get("label_names")
    name = markdown_cell(public_name(data, "path")) + (
        f" ({markdown_cell(str(data['name']))})" if data.get("name") else ""
    )
    lines = ["## Data", "", f"Dataset: {name}."]
    if isinstance(rows, Mapping):
        counts = [f"{markdown_cell(split)} {count:,}" for split, count in rows.items() if isinstance(count, int)]
        lines.append(f"Rows: {', '.join(counts)}.")
    if isinstance(labels, list) and labels:
        shown = ", ".join(markdown_cell(str(label)) for label in labels[:30])
        more = f" and {len(labels) - 30} more" if len(labels) > 30 else ""
        lines.append(f"Labels: {shown}{more}.")
    truncated = as_number(data.get("truncated_fraction"))
    if truncated:
        lines.append(f"{100 * truncated:.1f} % of the training rows were longer than the model reads and were cut.")
    return "\n".join(lines)


def _scores(run: Run) -> str:
    splits, main = _splits(run), str(run.main_metric.get("split"))
    names = list(dict.fromkeys(name for scores in splits.values() for name in scores))
    if not names:
        return ""
    columns = [Column("metric", names)]
    columns += [Column(split, [formats.score(scores.get(name)) for name in names]) for split, scores in splits.items()]
    columns += [
        Column(f"{words} ({main})", [formats.score(baseline_score(run, baseline, name)) for name in names])
        for baseline, words in BASELINE_WORDS.items()
        if run.baselines.get(baseline)
    ]
    return (
        "## Scores\n\n"
        + markdown_table(columns)
        + "\n\nIn brackets: confidence interval over the rows. "
        + ("One training seed: how much the scores would move with another seed is not known.")
    )


def _energy(run: Run) -> str:
    emissions, kwh = run.emissions, run.energy_kwh()
    if kwh is None:
        return "## Energy and CO2e\n\nNot measured."
    low, high = as_number(emissions.get("energy_kwh_low")), as_number(emissions.get("energy_kwh_high"))
    intensity = emissions.get("carbon_intensity")
    place = markdown_cell("; ".join(filter(None, (intensity_words(intensity), intensity_source(intensity)))))
    total = formats.energy_with_band(kwh, low, high)
    words = (
        f"This run used {total} and emitted {formats.grams(run.emissions_g())} of CO2e"
        f" ({place}), in {formats.duration(run.duration_s())}."
    )
    parts = emissions.get("components")
    entries = (
        {name: part for name, part in parts.items() if isinstance(part, Mapping)} if isinstance(parts, Mapping) else {}
    )
    table = markdown_table(
        [
            Column("component", list(entries)),
            Column("energy", [_component_energy(part) for part in entries.values()]),
            Column("method", [str(part.get("method") or formats.NOT_MEASURED) for part in entries.values()]),
            Column("how", [str(part.get("detail") or "") for part in entries.values()]),
        ]
    )
    caveat = (
        "Bands are bounds by engineering judgement, not confidence intervals. Energy is that of the machine's parts: "
        "losses of the power supply and the network, the making of the hardware and the pre-training of the "
        "checkpoint are not in it."
    )
    return "\n\n".join(["## Energy and CO2e", words, *([table] if entries else []), caveat])


def _component_energy(part: Mapping[str, Any]) -> str:
    if part.get("method") == "absent":
        return "–"
    names = ("energy_kwh", "energy_kwh_low", "energy_kwh_high")
    return formats.energy_with_band(*(as_number(part.get(name)) for name in names))


def _usage(run: Run) -> str:
    hub = run.recipe.get("hub")
    pushed = hub.get("hub_model_id") if isinstance(hub, Mapping) and hub.get("push_to_hub") else None
    name = pushed if isinstance(pushed, str) and re.fullmatch(r"[\w./-]+", pushed) else "path/to/this/folder"
    options = {"multi_label_classification": ", top_k=None", "regression": ', function_to_apply="none"'}
    extra = options.get(str(run.dataset.get("problem_type")), "")
    task = str(run.recipe.get("task") or "text-classification")
    task = task if re.fullmatch(r"[\w-]+", task) else "text-classification"
    return f"""## How to use it

```python
from transformers import pipeline

model = pipeline("{task}", model="{name}"{extra})
print(model("Text to classify."))
```

Or, for a file of texts: `finetune predict RUN FILE`."""
