"""How many tokens the probes of bias read, counted with a tokenizer of words."""

from types import SimpleNamespace

import pytest

from finetune.audit.cases import Cases
from finetune.audit.counterfactual import Change, Swaps
from finetune.audit.pairs import Pair, Pairs
from finetune.audit.probes import OpenProbe
from finetune.estimate.audits import audit_tokens
from finetune.recipe.bias_keys import BiasProbe

ROWS = [{"text": "a b c"}, {"text": "a b c d e f"}]
CASES = Cases(lambda: ROWS, (), (), False, "")
CHANGE = Change({"text": "a b"}, {"text": "a c"}, {"text": "d b"})
SWAPS = Swaps((("x → y", (CHANGE, Change(CHANGE.text, CHANGE.swapped, None))),), {})
PAIRS = Pairs("crows", (Pair("a b c", "a b", "k"),), {}, "")


def prepared(task="text-classification", kind="encoder-only", init="pretrained", head="ForMaskedLM", language=None):
    def tokenizer(texts):
        return {"input_ids": [text.split() for text in texts]}

    tokenizer.mask_token = "[MASK]"
    config = SimpleNamespace(architectures=[f"Bert{head}"])
    return SimpleNamespace(
        task=SimpleNamespace(name=task),
        checkpoint=SimpleNamespace(tokenizer=tokenizer, kind=kind, model_type="bert", config=config),
        recipe=SimpleNamespace(model=SimpleNamespace(init=init), hub=SimpleNamespace(language=language)),
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
        (PAIRS, prepared(head="Model"), 0),
        (PAIRS, prepared(language="en"), 3 * 3 + 2 * 2),
        (PAIRS, prepared(language=["pt"]), 0),
    ],
)
def test_audits_are_counted_in_tokens(material, model, tokens):
    settings = BiasProbe(probe="pairs", file="pairs.csv", language="en")
    assert audit_tokens(model, [OpenProbe(settings, {}, material, None)]) == tokens
