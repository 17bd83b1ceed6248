"""finetune.data.packing and finetune.models.packing: rows of several texts, each as if it stood alone."""

from dataclasses import replace

import datasets
import numpy
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoTokenizer

from finetune.data.batching import batch_columns, make_batch, model_inputs
from finetune.data.packing import best_fit, pack, packed_mask, unpacked
from finetune.errors import FinetuneError
from finetune.models.packing import packing_context
from finetune.tasks import Context, LabelScheme, fill_mask
from finetune.tasks.text_generation import TASK
from tests import tiny


@given(st.lists(st.integers(1, 20), min_size=1, max_size=60), st.integers(20, 30))
def test_best_fit_puts_each_feature_once_and_no_row_over_the_limit(lengths, limit):
    bins = best_fit(numpy.array(lengths), limit)
    assert sorted(place for places in bins for place in places) == list(range(len(lengths)))
    assert all(sum(lengths[place] for place in places) <= limit for places in bins)
    fullest = sorted(sum(lengths[place] for place in places) for places in bins)[:2]
    assert len(bins) == 1 or sum(fullest) > limit  # no two rows would go into one


def test_best_fit_fills_rows():
    assert best_fit(numpy.array([3, 7, 5, 5, 10]), 10) == [[4], [1, 0], [2, 3]]


def packed_texts(folder, limit=40, rows=12, task=TASK, kind="decoder-only"):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    if tokenizer.pad_token is None:
        tokenizer.add_special_tokens({"pad_token": tokenizer.eos_token or "<pad>"})
    context = Context(tokenizer, LabelScheme("lm"), kind, limit)
    features = task.encode({"text": [row["text"] for row in tiny.toy_rows()[:rows]]}, context)
    del features["source"]
    lengths = [len(ids) for ids in features["input_ids"]]
    split = datasets.Dataset.from_dict({**features, "length": lengths, "row": range(5, 5 + rows)})
    return split, pack(split, limit), context


def test_pack_keeps_every_token_and_label_once(checkpoints):
    split, packed, _ = packed_texts(checkpoints("gpt2"))
    assert len(packed) < len(split) / 2
    assert "attention_mask" not in packed.column_names
    back = [unpacked(row) for row in packed.select_columns(["input_ids", "labels", "position_ids"])]
    for name in ("input_ids", "labels", "attention_mask"):
        assert sorted(value for row in back for value in row[name]) == sorted(split[name])
    assert [sum(map(len, row["input_ids"])) for row in back] == packed["length"]
    assert all(row["labels"][0][0] == -100 for row in back)


def test_packed_mask_keeps_texts_apart():
    mask = packed_mask(torch.tensor([[0, 1, 0, 1, 0]]), causal=True)[0, 0] == 0
    assert mask.int().tolist() == [[1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [0, 0, 1, 0, 0], [0, 0, 1, 1, 0], [0, 0, 0, 0, 1]]
    assert torch.equal((packed_mask(torch.tensor([[0, 1, 0]]), causal=False)[0, 0] == 0).int(),
                       torch.tensor([[1, 1, 0], [1, 1, 0], [0, 0, 1]]))  # fmt: skip


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("family", ["gpt2", "gpt_neo", "opt", "llama", "qwen3"])
def test_packed_logits_and_loss_equal_those_of_each_text_alone(family, attention, checkpoints):
    if (family, attention) == ("gpt_neo", "sdpa"):
        attention = "eager"  # its only one
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_pretrained(checkpoints(family), attn_implementation=attention).eval()
    split, packed, context = packed_texts(checkpoints(family))
    assert packing_context(model, packed, TASK, context).first_position == 0
    rows = batch_columns(packed, TASK)
    batch = make_batch(rows[:], TASK, context, torch.device("cpu"))  # rows of unequal length: with padding
    with torch.no_grad():
        outputs = model(**model_inputs(batch))
        loss = 0.0
        for place in range(len(packed)):
            at = 0
            for ids in unpacked(rows[place])["input_ids"]:
                alone = model(input_ids=torch.tensor([ids])).logits[0]
                found = outputs.logits[place, at : at + len(ids)]
                assert torch.allclose(found, alone, atol=1e-5)
                loss += float(torch.nn.functional.cross_entropy(alone[:-1], torch.tensor(ids[1:]), reduction="sum"))
                at += len(ids)
        assert float(TASK.loss(outputs, batch, context)) == pytest.approx(loss, rel=1e-5)
    assert TASK.loss_weight(batch, context) == sum(length - 1 for length in split["length"])


@pytest.mark.parametrize("family", ["bert", "distilbert", "roberta", "electra", "modernbert"])
def test_packed_logits_of_encoders_equal_those_of_each_text_alone(family, checkpoints):
    model = AutoModelForMaskedLM.from_pretrained(checkpoints(family)).eval()
    _, packed, context = packed_texts(checkpoints(family), task=fill_mask.TASK, kind="encoder-only")
    context = replace(packing_context(model, packed, fill_mask.TASK, context), predicting=True)
    assert context.first_position == (context.tokenizer.pad_token_id + 1 if family == "roberta" else 0)
    rows = batch_columns(packed, fill_mask.TASK)
    with torch.no_grad():
        outputs = model(**model_inputs(make_batch(rows[:], fill_mask.TASK, context, torch.device("cpu"))))
        for place in range(len(packed)):
            alone = [model(input_ids=torch.tensor([ids])).logits[0] for ids in unpacked(rows[place])["input_ids"]]
            found = outputs.logits[place, : sum(map(len, alone))]
            assert torch.allclose(found, torch.cat(alone), atol=1e-5)


def test_a_family_that_mixes_texts_is_refused(checkpoints):
    model = AutoModelForCausalLM.from_pretrained(checkpoints("openai-gpt"))
    _, packed, context = packed_texts(checkpoints("openai-gpt"))
    model.resize_token_embeddings(len(context.tokenizer))
    with pytest.raises(FinetuneError, match="openai-gpt cannot keep texts apart that share a row"):
        packing_context(model, packed, TASK, context)
