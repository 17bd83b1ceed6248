"""Write the generated parts of the docs anew: `python docs/generate.py`; with --check only say which are stale.

A generated part stands between `<!-- generated: NAME -->` and `<!-- end -->`; everything around it is written by hand.
What stands in the README between `<!-- NAME -->` and `<!-- end NAME -->` is copied into its translation.
"""

import io
import os
import re
import sys
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
# What the help looks like must not depend on where the docs are written; Typer reads this when it is imported.
os.environ.update(COLUMNS="100", TERMINAL_WIDTH="100", NO_COLOR="1", TERM="dumb", _TYPER_FORCE_DISABLE_TERMINAL="1")
os.environ.pop("FORCE_COLOR", None)

from benchmarks.publishing import read_published  # noqa: E402
from benchmarks.scaling import table as scaling_estimate  # noqa: E402
from benchmarks.training_report import speed_words  # noqa: E402
from finetune.cli.app import VERBS, main  # noqa: E402
from finetune.inspection.fits import task_matrix  # noqa: E402
from finetune.recipe.reference import recipe_reference, recipe_schema_text  # noqa: E402
from finetune.recipe.work import all_shipped, rounded_wh  # noqa: E402
from finetune.tasks import all_tasks  # noqa: E402

BLOCK = re.compile(r"(<!-- generated: (?P<name>[\w-]+) -->\n)(?P<text>.*?)(?P<end><!-- end -->)", re.DOTALL)


def help_block(*words: str) -> str:
    """Return the help of a verb (without one, that of finetune itself) as a code block."""
    sys.argv[0] = "finetune"  # the name in the usage line
    printed = io.StringIO()
    with redirect_stdout(printed):
        code = main([*words, "--help"])
    if code != 0:
        raise SystemExit(f"finetune {' '.join(words)} --help ended with {code}")
    lines = [line.rstrip() for line in printed.getvalue().strip().splitlines()]
    return "\n".join(["```text", *lines, "```", ""])


def verbs() -> str:
    """Return the help of every verb, each under its own heading."""
    return "\n".join(f"## finetune {verb}\n\n{help_block(verb)}" for verb in VERBS)


def recipe_table() -> str:
    """Return the shipped recipes, what each says about itself, and what it takes, as a table."""
    rows = [
        f"| [`{recipe.name}`](recipes/{recipe.name}.yaml) | {recipe.summary} | {recipe.task} | {recipe.kind} | "
        f"{rounded_wh(recipe.expected_wh('processor'))} · {rounded_wh(recipe.expected_wh('gpu'))} |"
        for recipe in all_shipped()
    ]
    head = ["| recipe | what it does | task | model | energy to expect: processor · GPU |", "|---|---|---|---|---|"]
    return "\n".join([*head, *rows, ""])


def task_metrics() -> str:
    """Return the metrics of each task, by how its labels are read where that matters, as a table."""
    rows = []
    for task in all_tasks().values():
        optional = ", ".join(task.optional_metrics) or "–"
        for problem_type, names in task.metrics.items():
            kind = f" ({problem_type})" if len(task.metrics) > 1 else ""
            rows.append(f"| {task.name}{kind} | {', '.join(names)} | {optional} |")
    return "\n".join(["| task | always | if asked for |", "|---|---|---|", *rows, ""])


def speed() -> str:
    """Return how fast a training is, from the stored results of the benchmark; nothing before it has run."""
    found = (speed_words(read_published(name)) for name in ("training", "training-gpu"))
    return "".join(f"{words}\n" for words in found if words)


BLOCKS: Mapping[str, Callable[[], str]] = {
    "help": help_block,
    "verbs": verbs,
    "recipes": recipe_table,
    "speed": speed,
    "recipe-keys": recipe_reference,
    "scaling-estimate": scaling_estimate,
    "task-matrix": task_matrix,
    "task-metrics": task_metrics,
}
TRANSCRIPT = re.compile(r"<!-- (?P<name>[\w-]+) -->\n.*?<!-- end (?P=name) -->", re.DOTALL)
TRANSLATION = "README.pt-BR.md"
PAGES = (
    "README.md",
    TRANSLATION,
    "docs/recipe.md",
    "docs/cli.md",
    "docs/scaling.md",
    "docs/families.md",
    "docs/metrics.md",
)
SCHEMA = "recipes/recipe.schema.json"


def filled(page: str) -> str:
    """Return a page with its generated parts as they should be; raises SystemExit for a part that nobody generates."""

    def fill(block: re.Match[str]) -> str:
        if block["name"] not in BLOCKS:
            raise SystemExit(f"{page}: nothing generates the part {block['name']}; there are {', '.join(BLOCKS)}")
        return f"{block[1]}{BLOCKS[block['name']]()}{block['end']}"

    text = (ROOT / page).read_text(encoding="utf-8")
    return BLOCK.sub(fill, with_transcripts(text) if page == TRANSLATION else text)


def with_transcripts(text: str) -> str:
    """Return a translation of the README with what commands printed, as the README shows it."""
    printed = {found["name"]: found[0] for found in TRANSCRIPT.finditer((ROOT / "README.md").read_text("utf-8"))}
    return TRANSCRIPT.sub(lambda found: printed.get(found["name"], found[0]), text)


def wanted() -> dict[str, str]:
    """Return every file with generated content, by its path, as it should be."""
    return {**{page: filled(page) for page in PAGES}, SCHEMA: recipe_schema_text()}


def generate(check: bool) -> int:
    """Write what is stale, or with `check` only name it; return the exit code."""
    texts = wanted()
    stale = [path for path, text in texts.items() if (ROOT / path).read_text(encoding="utf-8") != text]
    for path in stale:
        if not check:
            (ROOT / path).write_text(texts[path], encoding="utf-8", newline="\n")
        print(f"{path}: {'stale; make docs writes it anew' if check else 'written'}")
    return 1 if check and stale else 0


if __name__ == "__main__":
    arguments = sys.argv[1:]
    if arguments not in ([], ["--check"]):
        raise SystemExit("usage: python docs/generate.py [--check]")
    sys.exit(generate(check=bool(arguments)))
