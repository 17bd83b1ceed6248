"""The model card: README.md of the saved model."""

import re
from collections.abc import Mapping
from typing import Any

from finetune.runs import formats
from finetune.runs.beside import beside_lines
from finetune.runs.bias import bias_markdown, flag_counts
from finetune.runs.card_metadata import card_metadata, hardware_words, hub_id, languages, public_name, scores_by_split
from finetune.runs.record import Run, as_mapping, as_number, as_sections, run_from_json, run_to_json
from finetune.runs.report import BASELINE_WORDS, baseline_score, intensity_source, intensity_words
from finetune.runs.tables import Column, markdown_cell, markdown_table
from finetune.tasks import all_tasks

_SETTINGS = (
    "num_train_epochs", "max_steps", "learning_rate", "lr_scheduler_type", "warmup_steps", "weight_decay",
    "per_device_train_batch_size", "gradient_accumulation_steps", "optim", "seed",
)  # fmt: skip

# The tasks for which transformers 5 has a pipeline.
_PIPELINES = ("text-classification", "token-classification", "fill-mask", "text-generation")


def model_card(run: Run, repository: str | None = None, is_adapter: bool = False) -> str:
    """Return the model card of a finished run.

    `repository` is where it is published, `is_adapter` says that only its adapter is. Text from the recipe and the data
    is escaped; home paths and tokens are taken out. Metadata: the Hub's model-cards and model-cards-co2 documentation.
    """
    import yaml

    run = run_from_json(run_to_json(run))
    metadata = yaml.safe_dump(card_metadata(run, is_adapter), sort_keys=False, allow_unicode=True, width=10_000)
    sections = [
        f"# {markdown_cell(run.name)}",
        _about(run), _data(run), _training(run, is_adapter), _scores(run), bias_markdown(run), _energy(run),
        _limits(run), _adapter_usage(run, repository) if is_adapter else _usage(run, repository),
    ]  # fmt: skip
    return f"---\n{metadata}---\n\n" + "\n\n".join(section for section in sections if section) + "\n"


def _about(run: Run) -> str:
    model = run.model
    base = markdown_cell(public_name(model, "name_or_path"))
    verb = "has the architecture of" if model.get("init") == "scratch" else "is"
    start = "trained from random weights (the control experiment)" if model.get("init") == "scratch" else "fine-tuned"
    count = as_number(model.get("parameters"))
    size = f" It has {count:,.0f} parameters." if count is not None else ""
    spoken = ", ".join(map(markdown_cell, languages(run)))
    return (
        f"This model {verb} {base}, {start} for {markdown_cell(str(run.recipe.get('task') or 'its task'))} with "
        f"`finetune`.{size}" + (f" Languages: {spoken}." if spoken else "")
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
    if data.get("license"):
        lines.append(f"Licence of the data, by its own card: {markdown_cell(str(data['license']))}.")
    truncated, divided = (as_number(data.get(name)) for name in ("truncated_fraction", "divided_fraction"))
    if truncated:
        lines.append(f"{100 * truncated:.1f} % of the training rows were longer than the model reads and were cut.")
    if divided:
        lines.append(f"{100 * divided:.1f} % were longer than the model reads and were read in parts.")
    return "\n".join(lines)


def _training(run: Run, is_adapter: bool) -> str:
    recipe, training = as_mapping(run.recipe.get("training")), run.training
    stated = [f"{key} {formats.setting(recipe[key])}" for key in _SETTINGS if recipe.get(key) is not None]
    method = as_mapping(run.recipe.get("peft")).get("method")
    frozen, precision = as_mapping(run.recipe.get("model")).get("freeze"), training.get("mixed_precision")
    steps, epochs, loss = (as_number(training.get(name)) for name in ("steps", "epochs", "train_loss"))
    trained, count = (as_number(run.model.get(name)) for name in ("trainable_parameters", "parameters"))
    done = [
        f"{steps:,.0f} steps" if steps is not None else "",
        f"{epochs:g} epochs" if epochs is not None else "",
        f"mean loss {formats.significant(loss)}" if loss is not None else "",
        f"{trained:,.0f} parameters trained" if trained is not None and trained != count else "",
        f"adapters: {method}" + ("" if is_adapter else ", merged") if method else "",
        f"frozen: {frozen}" if frozen not in (None, "none") else "",
        f"on {hardware_words(run)}" if run.hardware else "",
        {"no": "full precision"}.get(str(precision), f"in {precision}") if precision else "",
    ]
    used = ("finetune", "torch", "transformers", "datasets", "accelerate", "peft")
    versions = [f"{name} {run.versions[name]}" for name in used if run.versions.get(name)]
    lines = [
        f"Done: {markdown_cell(', '.join(part for part in done if part))}." if any(done) else "",
        f"Settings: {markdown_cell(', '.join(stated))}." if stated else "",
        f"Versions: {markdown_cell(', '.join(versions))}." if versions else "",
    ]
    found = [line for line in lines if line]
    return "\n\n".join(["## Training", *found]) if found else ""


def _scores(run: Run) -> str:
    splits, main = scores_by_split(run), str(run.main_metric.get("split"))
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
    beside = [f"- {markdown_cell(name)}: {markdown_cell(said)}" for name, said in beside_lines(run).items()]
    blocks = ["## Energy and CO2e", words, _phases(emissions), _components(emissions)]
    blocks += ["Beside the total:\n\n" + "\n".join(beside)] if beside else []
    return "\n\n".join(block for block in blocks if block)


def _phases(emissions: Mapping[str, Any]) -> str:
    entries = as_sections(emissions.get("phases"))
    columns = [
        Column("phase", list(entries)),
        Column("energy", [formats.energy(as_number(part.get("energy_kwh"))) for part in entries.values()]),
        Column("CO2e", [formats.grams(as_number(part.get("emissions_g"))) for part in entries.values()]),
        Column("time", [formats.duration(as_number(part.get("duration_s"))) for part in entries.values()]),
    ]
    return markdown_table(columns) if entries else ""


def _components(emissions: Mapping[str, Any]) -> str:
    entries = as_sections(emissions.get("components"))
    columns = [
        Column("component", list(entries)),
        Column("energy", [_component_energy(part) for part in entries.values()]),
        Column("method", [str(part.get("method") or formats.NOT_MEASURED) for part in entries.values()]),
        Column("how", [str(part.get("detail") or "") for part in entries.values()]),
    ]
    return markdown_table(columns) if entries else ""


def _component_energy(part: Mapping[str, Any]) -> str:
    if part.get("method") == "absent":
        return "–"
    names = ("energy_kwh", "energy_kwh_low", "energy_kwh_high")
    return formats.energy_with_band(*(as_number(part.get(name)) for name in names))


def _limits(run: Run) -> str:
    """Say what the figures above do not show; every sentence holds for this run."""
    longest, split = as_number(run.dataset.get("max_length")), run.main_metric.get("split")
    intensity = as_mapping(run.emissions.get("carbon_intensity"))
    limits = [
        "The scores hold for data like the above; other data, and bias against groups of people, were not tested."
        if flag_counts(run) is None
        else "The scores hold for data like the above. Bias was probed with the texts and groups above alone.",
        "The validation rows also chose the model, so their score flatters." if split == "validation" else "",
        f"Inputs are cut after {longest:,.0f} tokens." if longest is not None else "",
    ]
    if not languages(run):
        limits.append("Its languages are those of the checkpoint and the data; nobody stated them.")
    if run.energy_kwh() is not None:
        limits += [
            "Energy is that of processor, GPUs and memory of the whole machine. Losses of the power supply and the "
            "network, the making of the hardware and the pre-training of the checkpoint are not in it. Bands are "
            "bounds by engineering judgement, not confidence intervals.",
            "Part of the hardware gave no reading: energy and CO2e are lower bounds." if not run.is_complete else "",
            "The place of the machine is not known: CO2e is for the world average of the grids."
            if intensity.get("known_from") == "assumed"
            else "",
        ]
    return "\n".join(["## Limits", "", *(f"- {limit}" for limit in limits if limit)])


def _auto_class(run: Run) -> str:
    task = all_tasks().get(str(run.recipe.get("task")))
    return task.auto_classes.get(str(run.model.get("kind")), "AutoModel") if task is not None else "AutoModel"


def _adapter_usage(run: Run, repository: str | None) -> str:
    """Return how an adapter is put onto its checkpoint, which has a head as large as that of the run."""
    auto, base = _auto_class(run), hub_id(run.model, "name_or_path")
    labels, revision = run.dataset.get("label_names"), run.model.get("revision")
    names = f", id2label={dict(enumerate(map(str, labels)))!r}" if isinstance(labels, list) and labels else ""
    if not names and run.dataset.get("problem_type") == "regression":
        names = ", num_labels=1"
    pinned = f', revision="{revision}"' if isinstance(revision, str) and re.fullmatch(r"\w+", revision) else ""
    return f"""## How to use it

```python
from peft import PeftModel
from transformers import AutoTokenizer, {auto}

base = {auto}.from_pretrained("{base}"{pinned}{names})
model = PeftModel.from_pretrained(base, "{repository}")
tokenizer = AutoTokenizer.from_pretrained("{repository}")
```"""


def _usage(run: Run, repository: str | None) -> str:
    hub = as_mapping(run.recipe.get("hub"))
    pushed = repository or (hub.get("hub_model_id") if hub.get("push_to_hub") else None)
    name = pushed if isinstance(pushed, str) and re.fullmatch(r"[\w./-]+", pushed) else "path/to/this/folder"
    options = {"multi_label_classification": ", top_k=None", "regression": ', function_to_apply="none"'}
    extra = options.get(str(run.dataset.get("problem_type")), "")
    task = str(run.recipe.get("task") or "text-classification")
    task = task if re.fullmatch(r"[\w-]+", task) else "text-classification"
    if task in all_tasks() and task not in _PIPELINES:
        auto = _auto_class(run)
        return f"""## How to use it

For a file of rows: `finetune predict RUN FILE`. In Python:

```python
from transformers import AutoTokenizer, {auto}

model = {auto}.from_pretrained("{name}")
tokenizer = AutoTokenizer.from_pretrained("{name}")
```"""
    return f"""## How to use it

```python
from transformers import pipeline

model = pipeline("{task}", model="{name}"{extra})
print(model("Text to classify."))
```

Or, for a file of texts: `finetune predict RUN FILE`."""
