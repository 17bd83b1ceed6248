"""Every pair of family and task: what the docs say is what is loaded, and a pair without a head is one clear error."""

import re
from pathlib import Path

import pytest

from finetune.errors import FinetuneError
from finetune.models.architecture import transformer_kind
from finetune.models.heads import KNOWN_FAMILIES, require_head
from finetune.tasks import all_tasks

PAGE = (Path(__file__).parents[2] / "docs" / "families.md").read_text(encoding="utf-8")
TABLE = [[cell.strip() for cell in line.strip("|").split("|")] for line in PAGE.splitlines() if line.startswith("| ")]
HEADER, *ROWS = next(TABLE[place:] for place, row in enumerate(TABLE) if row[0] == "family" and "fill-mask" in row)
MATRIX = {row[0]: dict(zip(HEADER[2:], row[2:], strict=True)) for row in ROWS if row[0] in KNOWN_FAMILIES}


def require(family: str, task: str) -> None:
    from transformers import CONFIG_MAPPING

    kind = transformer_kind(CONFIG_MAPPING[family]().to_dict())
    require_head(all_tasks()[task], kind, family, f"owner/{family}")


def test_the_docs_have_every_family_and_task():
    assert tuple(MATRIX) == KNOWN_FAMILIES
    assert all(set(row) == set(all_tasks()) for row in MATRIX.values())


@pytest.mark.parametrize("family", KNOWN_FAMILIES)
def test_a_pair_without_a_head_says_which_checkpoints_and_tasks_fit(family):
    fits = [task for task, said in MATRIX[family].items() if said == "yes"]
    assert fits
    for task in all_tasks():
        if task in fits:
            require(family, task)
            continue
        with pytest.raises(FinetuneError) as caught:
            require(family, task)
        message, hint = caught.value.message, caught.value.hint
        assert message.startswith("model.name_or_path: ")
        assert re.search(rf"\ban? {family} model\b", message)
        assert task in message
        families, tasks = re.fullmatch(
            rf"Take a checkpoint of another family, for example (.+)\. {family} does (.+)\.", hint
        ).groups()
        assert set(re.split(", | or ", families)) == {name for name in MATRIX if MATRIX[name][task] == "yes"}
        assert set(re.split(", | and ", tasks)) == set(fits)


def test_a_family_that_transformers_does_not_have_is_left_to_its_own_code():
    assert require_head(all_tasks()["fill-mask"], "encoder-only", "home-made", "owner/home-made") is None  # no error
