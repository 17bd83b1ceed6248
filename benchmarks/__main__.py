"""python -m benchmarks [startup|memory|training|features|banking77|tasks|scratch]."""

from __future__ import annotations

import argparse
from dataclasses import fields
from pathlib import Path

from benchmarks import banking77, features, memory, scratch, startup, task_scores, tasks, training

NAMES = ("startup", "memory", "training", "features", "banking77", "tasks", "scratch")


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line; without a name all benchmarks run."""
    usual = training.Options()
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure; tables go to the README here.")
    parser.add_argument("benchmark", nargs="?", choices=NAMES, help="one of them; default: all")
    parser.add_argument(
        "--data", type=Path, help="folder with train, validation and test .jsonl of text and label; tasks: of data sets"
    )
    parser.add_argument("--resume", action="store_true", help="keep stored runs of the same set-up")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(banking77.SEEDS), help="banking77, tasks: seeds")
    parser.add_argument("--sets", nargs="+", choices=list(task_scores.METRICS), default=list(task_scores.METRICS))
    parser.add_argument("--table-rows", type=int, nargs="+", default=list(memory.ROWS), help="memory: sizes")
    group = parser.add_argument_group("training")
    group.add_argument("--repeats", type=int, default=usual.repeats, help="rounds in which every system runs once")
    group.add_argument("--epochs", type=int, help="passes over the data; default: as many as --rows needs")
    group.add_argument("--rows", type=int, default=usual.rows, help="training rows of a run, all epochs together")
    group.add_argument("--systems", nargs="+", choices=list(training.SYSTEMS), default=list(usual.systems))
    group.add_argument("--model-size", choices=["minilm", "base"], default=usual.model_size)
    group.add_argument("--threads", type=int, help="threads of every run; default: one a core")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    """Run what the command line asks for."""
    asked = parse(arguments)
    wanted = (asked.benchmark,) if asked.benchmark else NAMES
    if "startup" in wanted:
        startup.run()
    if "memory" in wanted:
        memory.run(asked.table_rows)
    if "training" in wanted:
        own = {field.name: getattr(asked, field.name) for field in fields(training.Options)}
        training.run(training.Options(**own | {"systems": tuple(asked.systems)}))
    if "features" in wanted:
        features.run(asked.data)
    if "banking77" in wanted:
        banking77.run(asked.data, asked.seeds, asked.resume)
    if "tasks" in wanted:
        tasks.run(asked.data, asked.seeds, asked.resume, asked.sets)
    if "scratch" in wanted:
        scratch.run(asked.data, asked.resume)


if __name__ == "__main__":
    main()
