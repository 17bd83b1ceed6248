import json

import pytest
import transformers

from finetune.models.architecture import transformer_kind
from finetune.models.language import LANGUAGE_HEADS
from tests import tiny
from tests.zero_shot import knowing


@pytest.fixture(scope="session")
def speaking(checkpoints, tmp_path_factory):
    """Return a function that makes a random language model of a family, its head included, once: its folder."""
    made = {}

    def of(family):
        if family not in made:
            made[family] = knowing.language_model(checkpoints(family), tmp_path_factory.mktemp(f"speaking-{family}"))
        return made[family]

    return of


@pytest.fixture(scope="session")
def opened(speaking):
    """Return a function that loads such a model: (model, tokenizer, kind)."""
    made = {}

    def of(family):
        if family not in made:
            folder = speaking(family)
            tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
            kind = transformer_kind(transformers.AutoConfig.from_pretrained(folder).to_dict())
            auto = getattr(transformers, LANGUAGE_HEADS[kind][0])
            made[family] = auto.from_pretrained(folder).eval(), tokenizer, kind
        return made[family]

    return of


@pytest.fixture(scope="session")
def splits(tmp_path_factory):
    """Return a folder with the toy task: 64 rows to learn from, all 32 others to be asked about."""
    folder = tmp_path_factory.mktemp("splits")
    rows = tiny.toy_rows()
    for split, part in {"train": rows[:56], "validation": rows[56:64], "test": rows[64:]}.items():
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))
    return folder


@pytest.fixture
def subject(speaking, splits, tmp_path):
    """Return a function that opens data and checkpoint of a recipe: subject("gpt2", key=…) or subject(folder)."""
    from contextlib import nullcontext

    from finetune.recipe.load import load_recipe
    from finetune.training.asked_run import open_subject
    from finetune.training.options import RunOptions

    def open_it(model, *settings, task="text-classification", path=None):
        folder = speaking(model) if isinstance(model, str) else model
        recipe = tmp_path / "asked.yaml"
        sections = {
            "task": task,
            "model": {"name_or_path": str(folder)},
            "dataset": {"path": str(path or splits)},
        }
        if path is None:
            sections["evaluation"] = {"prompt": {"template": knowing.TEMPLATE, "label_words": knowing.WORDS}}
        recipe.write_text(json.dumps(sections))
        loaded = load_recipe(str(recipe), ["training.mixed_precision=no", f"output_dir={tmp_path}", *settings])
        return open_subject(RunOptions(loaded.recipe, "asked"), lambda name: nullcontext())

    return open_it


class Alone:
    """A session of nothing: for asking without a run."""

    def check(self):
        pass
