"""Every shipped recipe, smoked: hub ids are served by a stand-in on the loopback, then once more without any hub."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from finetune.tasks import all_tasks
from tests.hub.content import EMOTIONS, ENTITIES, SLURS, TOPICS, repository
from tests.hub.sessions import Answer, closed_address, run_commands
from tests.hub.stand_in import Repository, serve

RECIPES = {path.stem: yaml.safe_load(path.read_text()) for path in Path(__file__).parents[1].glob("recipes/*.yaml")}
INTENTS = [
    "account_access", "change_or_cancel_order", "damaged_or_wrong_item", "delivery_status", "payment_problem",
    "product_question", "return_or_refund", "warranty_or_repair",
]  # fmt: skip
FAST = {"sst2-distilbert"}

# recipe: its labels in the order of their ids, and the splits that are scored
EXPECTED = {
    "ag-news-bart": (TOPICS, ["validation", "test"]),
    "ag-news-gpt2": (TOPICS, ["validation", "test"]),
    "arc-bert": ([], ["validation", "test"]),
    "conll2003-distilbert": (ENTITIES, ["validation", "test"]),
    "cnn-dailymail-bart": ([], ["validation", "test"]),
    "go-emotions-roberta": (EMOTIONS, ["validation", "test"]),
    "imdb-bias-distilbert": (["neg", "pos"], ["validation", "test"]),
    "imdb-gpt2": (["neg", "pos"], ["validation", "test"]),
    "imdb-masked-distilbert": ([], ["validation", "test"]),
    "mrpc-bert": (["not_equivalent", "equivalent"], ["validation", "test"]),
    "opus-books-t5": ([], ["validation"]),
    "quickstart": (INTENTS, ["validation", "test"]),
    "quickstart-lora": (INTENTS, ["validation", "test"]),
    "quickstart-scratch": (INTENTS, ["validation", "test"]),
    "squad-distilbert": ([], ["validation"]),
    "squad-pt-distilbert": ([], ["validation"]),
    "sst2-distilbert": (["negative", "positive"], ["validation"]),
    "stsb-minilm": ([], ["validation"]),
    "tinystories-gpt2": ([], ["validation"]),
    "toxic-tweets-pt-distilbert": (SLURS, ["validation", "test"]),
}

# Not in the cache when the hub is out of reach: what is asked for, and what the error must name.
ABSENT = {
    "model": ("model.name_or_path=owner/absent", ["model.name_or_path", "owner/absent"]),
    "dataset": ("dataset.path=owner/absent", ["owner/absent", "not in the cache"]),
    "configuration": ("dataset.name=mrpc", ["nyu-mll/glue", "mrpc", "cache"]),
}

each_recipe = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in FAST else pytest.mark.slow) for name in sorted(EXPECTED)]
)


@dataclass(frozen=True)
class Group:
    """Recipes smoked together: the answers with the hub and without it, and what the hub was asked."""

    repositories: dict[tuple[str, str], Repository]
    online: dict[str, Answer]
    offline: dict[str, Answer]
    absent: dict[str, Answer]
    asked: list[tuple[str, str]]


@pytest.fixture(scope="module")
def group_of(tmp_path_factory) -> Callable[[str], Group]:
    """Return the group of a recipe; a group shares two processes, since each spends seconds on imports."""
    groups: dict[bool, Group] = {}

    def of(name: str) -> Group:
        fast = name in FAST
        if fast not in groups:
            names = sorted(FAST if fast else EXPECTED.keys() - FAST)
            groups[fast] = smoke_together(names, tmp_path_factory.mktemp("hub"))
        return groups[fast]

    return of


def smoke_together(names: list[str], folder: Path) -> Group:
    """Smoke recipes in one process with a hub, then in another one with --offline and nobody listening."""
    commands = [["run", name, "--smoke", "--json", "--country", "BRA"] for name in names]
    wanted = {key for name in names for key in hub_ids(RECIPES[name])}
    repositories = {key: repository(*key, folder / "made") for key in sorted(wanted)}
    with serve(list(repositories.values())) as hub:
        online = run_commands(folder, hub.url, commands)
        asked = list(hub.requests)
    absent = [["run", "sst2-distilbert", "--smoke", "--offline", setting] for setting, _ in ABSENT.values()]
    offline = run_commands(folder, closed_address(), [[*command, "--offline"] for command in commands] + absent)
    return Group(
        repositories,
        dict(zip(names, online, strict=True)),
        dict(zip(names, offline, strict=False)),
        dict(zip(ABSENT, offline[len(names) :], strict=True)),
        asked,
    )


def hub_ids(recipe: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the repositories that a recipe names, as (kind, id)."""
    named = [("models", recipe["model"]["name_or_path"]), ("datasets", recipe["dataset"]["path"])]
    return [(kind, name) for kind, name in named if not name.startswith("package:")]


def test_shipped_recipes_are_all_smoked():
    assert EXPECTED.keys() == RECIPES.keys()


def test_every_task_has_a_shipped_recipe():
    used = {recipe["task"] for recipe in RECIPES.values()}
    assert all_tasks().keys() - used == {"text2text-generation"}  # has its two special cases
    assert [name for name, recipe in RECIPES.items() if "-pt-" in name and recipe["task"] == "question-answering"]


@each_recipe
def test_shipped_recipe_completes_with_its_labels(name, group_of):
    record = group_of(name).online[name].record
    labels, splits = EXPECTED[name]
    assert (record["status"], record["training"]["steps"]) == ("completed", 2)
    assert record["dataset"]["label_names"] == labels
    assert list(record["metrics"]) == splits
    assert record["emissions"]["energy_kwh"] > 0


@pytest.mark.slow
def test_shipped_recipe_with_a_probe_of_bias_asks_it_before_and_after(group_of):
    [name] = [name for name, recipe in RECIPES.items() if (recipe.get("evaluation") or {}).get("bias")]
    [probe] = group_of(name).online[name].record["bias"]["probes"]
    assert (probe["probe"], probe["language"], probe["before_reason"], probe["after_reason"]) == (
        "swaps",
        "en",
        None,
        None,
    )
    for moment in ("before", "after"):
        told = {(finding["group"], finding["measure"]): finding["n"] for finding in probe[moment]["findings"]}
        for group in ("gender: female → male", "gender: male → female"):
            assert told[group, "flips beyond neutral"] == told[group, "score gap"] > 0


@each_recipe
def test_shipped_recipe_records_the_commits(name, group_of):
    group = group_of(name)
    record = group.online[name].record
    commits = {kind: group.repositories[kind, hub_id].commit for kind, hub_id in hub_ids(RECIPES[name])}
    assert record["model"]["revision"] == commits.get("models")
    assert record["dataset"]["revision"] == commits.get("datasets")


@each_recipe
def test_shipped_recipe_is_smoked_without_its_weights(name, group_of):
    checkpoint = RECIPES[name]["model"]["name_or_path"]
    asked = [path for _, path in group_of(name).asked if path.startswith(f"/{checkpoint}/resolve/")]
    assert bool(asked) == (not checkpoint.startswith("package:"))
    assert [path for path in asked if "safetensors" in path or path.endswith(".bin")] == []


@each_recipe
def test_shipped_recipe_runs_again_from_the_cache(name, group_of):
    group = group_of(name)
    first, second = group.online[name].record, group.offline[name].record
    assert second["status"] == "completed"
    assert second["metrics"] == first["metrics"]
    for section, key in [("model", "revision"), ("dataset", "revision"), ("dataset", "fingerprint")]:
        assert second[section][key] == first[section][key]


@pytest.mark.parametrize("what", ABSENT)
def test_shipped_recipe_offline_says_what_is_not_in_the_cache(what, group_of):
    message, hint = group_of("sst2-distilbert").absent[what].error
    assert [word for word in ABSENT[what][1] if word not in message] == []
    assert len(hint) > len("hint: ")
