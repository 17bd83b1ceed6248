"""Everything up to the first step, told instead of done."""

from __future__ import annotations

import tempfile
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from finetune.runs.formats import file_size
from finetune.text import join_words, plural
from finetune.training.disk import disk_estimate, require_room
from finetune.training.memory import memory_estimate
from finetune.training.options import RunOptions
from finetune.training.plan import make_plan
from finetune.training.prepare import Prepared, prepare
from finetune.training.sections import dataset_section, model_section


def dry_run(options: RunOptions, num_processes: int = 1) -> dict[str, Any]:
    """Prepare a run and return what so many processes would do; nothing is trained and no run directory is made.

    Raises FinetuneError for whatever the run would be refused for.
    """
    with tempfile.TemporaryDirectory() as directory:
        prepared = prepare(options.recipe, lambda name: nullcontext(), Path(directory), smoke=options.smoke)
    return what_was_found(prepared, options.name, num_processes)


def what_was_found(prepared: Prepared, name: str, num_processes: int = 1) -> dict[str, Any]:
    """Return what is known of a run before its first step; raises FinetuneError when the disk has no room for it."""
    training, output_dir = prepared.recipe.training, Path(prepared.recipe.output_dir)
    plan = make_plan(training, prepared.train_features, num_processes)
    disk = disk_estimate(prepared, output_dir)
    require_room(disk, training)
    length = min(prepared.encoded.length_max, prepared.max_length)
    return {
        "name": name,
        "task": prepared.task.name,
        "model": model_section(prepared),
        "dataset": dataset_section(prepared),
        "training": {
            "steps_per_epoch": plan.steps_per_epoch,
            "total_steps": plan.total_steps,
            "rows_per_step": plan.global_batch_size,
            "num_processes": num_processes,
            "device": prepared.hardware.device,
            "mixed_precision": prepared.hardware.mixed_precision,
        },
        "seeds": training.seeds or [training.seed],
        "metrics": list(prepared.metric_names),
        "memory": memory_estimate(
            prepared.bare_model, training.optim, training.per_device_train_batch_size, length,
            prepared.hardware.mixed_precision,
        ),
        "disk": disk.to_dict(),
        "first_row": first_row(prepared),
        "notes": list(prepared.notes),
    }  # fmt: skip


def first_row(prepared: Prepared) -> dict[str, Any]:
    """Return one training row as the model will see it: its tokens as text again, and its target."""
    ids = prepared.encoded.splits["train"][0]["input_ids"]
    return {
        "tokens": prepared.checkpoint.tokenizer.decode(ids[0] if isinstance(ids[0], list) else ids),
        "label": _first_target(prepared),
    }


def _first_target(prepared: Prepared) -> Any:
    target = prepared.task.target
    if target is None:
        return None
    return prepared.task.words(prepared.data.splits["train"][0][target], prepared.labels)


def describe_dry_run(report: dict[str, Any]) -> str:
    """Return the report of a dry run as lines for people."""
    model, data, training, memory = (report[part] for part in ("model", "dataset", "training", "memory"))
    size = {name: f"{count / 1e9:.2f} GB" for name, count in memory.items()}
    disk = {name: "unknown" if count is None else file_size(count) for name, count in report["disk"].items()}
    unnamed = "a number" if data["problem_type"] == "regression" else "none"
    labels = join_words(data["label_names"][:12], "and") or unnamed
    more = len(data["label_names"]) - 12
    lengths, rows = data["length_tokens"], data["rows"]
    seeds = [str(seed) for seed in report["seeds"]]
    runs = [f"  runs        {len(seeds)}, one for each of the seeds {join_words(seeds, 'and')}; what follows is of one"]
    lines = [
        f"dry run of {report['name']} ({report['task']})",
        *(runs if len(seeds) > 1 else []),
        f"  model       {model['name_or_path']}: {model['kind']} ({model['model_type']}), {model['init']}, "
        f"{model['parameters']:,} parameters, {model['trainable_parameters']:,} trained",
        "  data        " + ", ".join(f"{split} {plural(count, 'row')}" for split, count in rows.items()),
        "  columns     " + ", ".join(f"{role} = {column}" for role, column in data["columns"].items()),
        f"  labels      {labels}" + (f" and {more} more" if more > 0 else "") + f" ({data['problem_type']})",
        f"  lengths     median {lengths['p50']}, 95 % up to {lengths['p95']}, longest {lengths['max']} tokens, "
        f"limit {data['max_length']}, {100 * data['truncated_fraction']:.1f} % truncated"
        + (f", {100 * data['divided_fraction']:.1f} % read in parts" if data["divided_fraction"] else ""),
        f"  steps       {training['total_steps']:,} ({training['steps_per_epoch']:,} an epoch, "
        f"{training['rows_per_step']} rows a step) on {training['device']}, precision {training['mixed_precision']}",
        f"  memory      about {sum(memory.values()) / 1e9:.2f} GB: weights {size['weights_bytes']}, "
        f"gradients {size['gradients_bytes']}, optimizer {size['optimizer_bytes']}, "
        f"activations about {size['activations_estimate_bytes']} at the longest batch",
        f"  disk        about {disk['needed_bytes']} at most, {disk['free_bytes']} free",
        f"  metrics     {', '.join(report['metrics'])}",
        f"  first row   {report['first_row']['tokens'][:100]} → {report['first_row']['label']}",
    ]
    return "\n".join(lines + [f"  note        {note}" for note in report["notes"]])
