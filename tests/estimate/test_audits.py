"""How many tokens the probes of bias read, counted with a tokenizer of words."""

from types import SimpleNamespace

import pytest

from finetune.audit.cases import Cases
from finetune.audit.counterfactual import Change, Swaps
from finetune.audit.pairs import Pair, Pairs
from finetune.audit.probes import OpenProbe
from finetune.estimate.audits import audit_tokens

ROWS = [{"text": "a b c"}, {"text": "a b c d e f"}]
CASES = Cases(lambda: ROWS, (), (), False, "")
CHANGE = Change({"text": "a b"}, {"text": "a c"}, {"text": "d b"})
SWAPS = Swaps((("x → y", (CHANGE, Change(CHANGE.text, CHANGE.swapped, None))),), {})
PAIRS = Pairs("crows", (Pair("a b c", "a b", "k"),), {}, "")


def prepared(task="text-classification", kind="encoder-only", init="pretrained"):
    def tokenizer(texts):
        return {"input_ids": [text.split() for text in texts]}

    tokenizer.mask_token = "[MASK]"
    config = SimpleNamespace(architectures=["BertForMaskedLM"])
    return SimpleNamespace(
        task=SimpleNamespace(name=task),
        checkpoint=SimpleNamespace(tokenizer=tokenizer, kind=kind, model_type="bert", config=config),
        recipe=SimpleNamespace(model=SimpleNamespace(init=init)),
        max_length=4,
    )


@pytest.mark.parametrize(
    ("material", "model", "tokens"),
    [
        (CASES, prepared(), 2 * (3 + 4)),  # the longer text is cut
        (SWAPS, prepared(), 2 * (2 + 2 + 2)),  # each text once
        (CASES, prepared("token-classification"), 0),
        (PAIRS, prepared(), 3 * 3 + 2 * 2),  # before training alone
        (PAIRS, prepared("fill-mask"), 2 * (3 * 3 + 2 * 2)),
        (PAIRS, prepared(init="scratch"), 0),
        (PAIRS, prepared(kind="encoder-decoder"), 0),
    ],
)
def test_audits_are_counted_in_tokens(material, model, tokens):
    assert audit_tokens(model, [OpenProbe(None, {}, material, None)]) == tokens
