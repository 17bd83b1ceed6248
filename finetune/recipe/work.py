"""What a shipped recipe takes, as its comment tells it: the line `# Work: …`, and the energy to expect from that.

Six operations a parameter and token of training (Kaplan et al. 2020, arXiv:2001.08361, section 2.1), at what a joule
buys. Both prices are assumptions of the right order of magnitude, the whole machine counted: a processor that does
60 GFLOP/s at 20 W, a data-centre GPU that does 20 TFLOP/s at 350 W. `finetune estimate` measures instead.
"""

import re
from dataclasses import asdict, dataclass
from pathlib import Path

from finetune.recipe.shipped import describe_recipe, shipped_recipes, shipped_studies, shipped_sweeps
from finetune.recipe.yaml_lines import read_yaml

_OPERATIONS_PER_JOULE = {"processor": 3e9, "gpu": 6e10}
_JOULES_PER_WH = 3600
_LINE = re.compile(
    r"# Work: (?P<kind>\S+), (?P<millions>\d+) million parameters beside the embeddings, "
    r"(?P<rows>[\d,]+) rows of about (?P<tokens>\d+) tokens\."
)


@dataclass(frozen=True)
class ShippedRecipe:
    """A shipped recipe in a few facts. parameters: those that do work for a token (no embeddings); tokens: of a row."""

    name: str
    summary: str
    task: str
    kind: str
    parameters: int
    data: str
    rows: int
    tokens: int
    epochs: float

    def expected_wh(self, device: str) -> float:
        """Return the energy to train it on a `processor` or a `gpu`, in Wh; right within a factor of five or so."""
        operations = 6 * self.parameters * self.rows * self.tokens * self.epochs
        return operations / _OPERATIONS_PER_JOULE[device] / _JOULES_PER_WH


def read_shipped(name: str, path: Path) -> ShippedRecipe:
    """Return the facts of a shipped recipe. Raises ValueError where its line of work is missing."""
    text = path.read_text(encoding="utf-8")
    told = _LINE.search(text)
    root, _ = read_yaml(text)
    if told is None or root is None:
        raise ValueError(f"{path}: no line that begins with '# Work:' in the form of the other recipes")
    settings = root.plain()
    dataset = settings["dataset"]
    return ShippedRecipe(
        name=name,
        summary=describe_recipe(path),
        task=settings["task"],
        kind=told["kind"],
        parameters=int(told["millions"]) * 10**6,
        data=dataset["path"].rpartition("/")[2] + (f" {dataset['name']}" if dataset.get("name") else ""),
        rows=int(told["rows"].replace(",", "")),
        tokens=int(told["tokens"]),
        epochs=float(settings["training"].get("num_train_epochs", 3)),
    )


def all_shipped() -> list[ShippedRecipe]:
    """Return the facts of every shipped recipe, by name."""
    return [read_shipped(name, path) for name, path in shipped_recipes().items()]


def rounded_wh(wh: float) -> str:
    """Return an expected energy with the one digit that it deserves."""
    one = float(f"{wh:.1g}")
    return f"{one / 1000:g} kWh" if one >= 1000 else f"{one:g} Wh"


def as_dict(recipe: ShippedRecipe) -> dict[str, object]:
    """Return the facts of a recipe as JSON values, with the expected energies."""
    expected = {device: float(f"{recipe.expected_wh(device):.1g}") for device in _OPERATIONS_PER_JOULE}
    return {**asdict(recipe), "expected_wh": expected}


def list_recipes() -> str:
    """Return the shipped recipes, two lines each: what it is for; task, model, data and expected energy."""
    lines = []
    for recipe in all_shipped():
        model = f"{recipe.kind}, {recipe.parameters // 10**6} M"
        data = f"{recipe.data}, {recipe.rows:,} rows × {recipe.epochs:g}"
        energy = f"{rounded_wh(recipe.expected_wh('processor'))} (GPU {rounded_wh(recipe.expected_wh('gpu'))})"
        lines += [f"{recipe.name}: {recipe.summary}", f"    {recipe.task} · {model} · {data} · {energy}"]
    note = (
        "Rows are those to train on × epochs. Energy is that of training on a processor (on a GPU), right within a "
        "factor of five or so."
    )
    more = f"finetune sweep {' | '.join(shipped_sweeps())}, finetune study {' | '.join(shipped_studies())}"
    return "\n".join([*lines, "", f"{note} Measure it here: finetune estimate RECIPE", f"Also shipped: {more}"])
