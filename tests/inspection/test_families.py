"""finetune.inspection.families says of every family what transformers itself says when it is imported."""

import pytest

from finetune.inspection.families import _auto_classes, find_family
from finetune.models.architecture import transformer_kind
from finetune.models.heads import has_head
from tests.tiny import FAMILIES

LOADERS = (
    "AutoModelForSequenceClassification", "AutoModelForTokenClassification", "AutoModelForQuestionAnswering",
    "AutoModelForMultipleChoice", "AutoModelForMaskedLM", "AutoModelForCausalLM", "AutoModelForSeq2SeqLM",
)  # fmt: skip


@pytest.mark.parametrize("loader", LOADERS)
def test_family_has_the_heads_that_transformers_has(loader):
    from transformers import CONFIG_MAPPING

    # gpt-sw3 is an old name of gpt2, whose heads has_head finds by the configuration they share.
    families = sorted({name for name in CONFIG_MAPPING if name in _auto_classes()["AutoModel"]} - {"gpt-sw3"})
    assert len(families) > 200
    differ = [name for name in families if (loader in find_family(name).auto_classes) != has_head(loader, name)]
    assert differ == []


@pytest.mark.parametrize("name", [*FAMILIES, "roberta", "qwen3", "mbart", "mamba"])
def test_family_has_the_keys_and_defaults_of_its_configuration_class(name):
    from transformers import CONFIG_MAPPING

    family, own = find_family(name), CONFIG_MAPPING[name]
    assert family.is_known
    assert dict(family.aliases) == dict(own.attribute_map)
    config = own()
    assert family.defaults["vocab_size"] == config.vocab_size
    for key in ("hidden_size", "num_hidden_layers"):
        assert family.defaults[family.aliases.get(key, key)] == getattr(config, key)


def test_family_that_transformers_does_not_have_is_not_known():
    family = find_family("no-such-family")
    assert (family.is_known, family.auto_classes, dict(family.defaults)) == (False, frozenset(), {})


def test_matrix_in_the_docs_is_what_a_run_would_be_told():
    from transformers import CONFIG_MAPPING

    from finetune.errors import FinetuneError
    from finetune.inspection.fits import task_matrix
    from finetune.models.heads import require_head
    from finetune.tasks import all_tasks

    def is_taken(task, kind, family):
        try:
            require_head(task, kind, family, family)
        except FinetuneError:
            return False
        return True

    header, _, *lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in task_matrix().splitlines()]
    assert header[2:] == list(all_tasks())
    for family, kind, *cells in lines:
        assert kind == transformer_kind({**CONFIG_MAPPING[family]().to_dict(), "model_type": family})
        assert [cell == "yes" for cell in cells] == [is_taken(all_tasks()[name], kind, family) for name in header[2:]]
    assert {"yes", "–"} == {cell for line in lines for cell in line[2:]}
