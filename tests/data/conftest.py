import json

import pytest

from finetune.data.sources import load_data
from finetune.recipe.schema import Recipe
from finetune.tasks import all_tasks


@pytest.fixture
def task():
    return all_tasks()["text-classification"]


@pytest.fixture
def load(task):
    """Return a function that loads a dataset section: load(path=..., columns=...) → LoadedData."""

    def of(**section):
        recipe = {"task": task.name, "model": {"name_or_path": "any"}, "dataset": section}
        return load_data(Recipe.model_validate(json.loads(json.dumps(recipe, default=str))), task)

    return of


@pytest.fixture
def write(tmp_path):
    """Return a function that writes a file from text, bytes or a list of rows (as jsonl) and returns its path."""

    def of(name, content):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, list):
            content = "".join(json.dumps(row) + "\n" for row in content)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return of


@pytest.fixture
def rows():
    """Return a function that makes n rows of the labels a and b, all different."""

    def of(count, **extra):
        return [{"text": f"text number {i}", "label": "ab"[i % 2], **extra} for i in range(count)]

    return of
