"""The likelihoods are those of plain transformers, one answer at a time, without padding."""

from types import SimpleNamespace

import pytest
import torch

from finetune.errors import FinetuneError
from finetune.zero_shot.choosing import ask, collate, features_of
from finetune.zero_shot.tokens import asked
from finetune.zero_shot.wording import Query

# One token, several that begin alike, and one that is the beginning of another.
ANSWERS = ["lovely", "awful", "lovely day", "lovely film", "a cheerful evening zq"]
QUERIES = [Query("the meal seemed ", " to everyone"), Query("my brother called the film "), Query("so ", " it was")]


def scores(model, tokenizer, kind, queries, answers=ANSWERS):
    rows = [asked(query, answers, tokenizer, kind, model.config) for query in queries]
    features = {name: values for name, values in features_of(rows).items() if name != "length"}
    context = SimpleNamespace(tokenizer=tokenizer, kind=kind)
    with torch.no_grad():
        return ask(model, collate(features, context), context).scores.reshape(len(queries), -1), rows


def mean_chance(logits, tokens):
    return logits.float().log_softmax(-1).gather(1, torch.tensor(tokens)[:, None]).mean()


@pytest.mark.parametrize("family", ["gpt2", "gpt_neo", "opt", "openai-gpt"])
def test_causal_models_score_an_answer_after_its_prompt(family, opened):
    model, tokenizer, kind = opened(family)
    found, _ = scores(model, tokenizer, kind, QUERIES)
    for query, row in zip(QUERIES, found, strict=True):
        for answer, score in zip(ANSWERS, row, strict=True):
            before, whole = (tokenizer(text)["input_ids"] for text in (query.before.rstrip(), query.before + answer))
            assert whole[: len(before)] == before
            with torch.no_grad():
                logits = model(torch.tensor([whole])).logits[0, len(before) - 1 : -1]
            assert score == pytest.approx(float(mean_chance(logits, whole[len(before) :])), abs=1e-5)


def test_padding_on_the_left_with_positions_gives_the_same(opened):
    model, tokenizer, kind = opened("gpt2")
    found, _ = scores(model, tokenizer, kind, QUERIES, ["lovely", "awful"])
    tokenizer.padding_side = "left"
    texts = [query.before + answer for query in QUERIES for answer in ("lovely", "awful")]
    batch = tokenizer(texts, return_tensors="pt", padding=True)
    tokenizer.padding_side = "right"
    positions = (batch["attention_mask"].cumsum(1) - 1).clamp(min=0)
    with torch.no_grad():
        logits = model(**batch, position_ids=positions).logits[:, :-1].log_softmax(-1)
    chances = logits.gather(2, batch["input_ids"][:, 1:, None])[..., 0]
    for text, row, score in zip(texts, chances, found.flatten(), strict=True):
        tokens = len(tokenizer(" lovely" if "lovely" in text else " awful")["input_ids"])
        assert score == pytest.approx(float(row[-tokens:].mean()), abs=1e-5)


def test_masked_models_fill_the_gap_from_left_to_right(opened):
    model, tokenizer, kind = opened("bert")
    found, _ = scores(model, tokenizer, kind, QUERIES)
    for query, row in zip(QUERIES, found, strict=True):
        for answer, score in zip(ANSWERS, row, strict=True):
            words = tokenizer(answer, add_special_tokens=False)["input_ids"]
            first = len(tokenizer(query.before)["input_ids"]) - 1
            total = 0.0
            for known in range(len(words)):
                ids = tokenizer(query.filled(answer))["input_ids"]
                for spot in range(first + known, first + len(words)):
                    ids[spot] = tokenizer.mask_token_id
                with torch.no_grad():
                    logits = model(torch.tensor([ids])).logits[0, first + known]
                total += float(logits.log_softmax(-1)[words[known]])
            assert score == pytest.approx(total / len(words), abs=1e-5)


def test_a_word_of_one_token_is_the_plain_cloze(opened):
    model, tokenizer, kind = opened("bert")
    found, [row] = scores(model, tokenizer, kind, QUERIES[:1], ["lovely", "awful", "rotten"])
    assert len(row.sequences) == 1  # one forward pass for all of them
    batch = tokenizer(QUERIES[0].filled("[MASK]"), return_tensors="pt")
    with torch.no_grad():
        logits = model(**batch).logits[0, batch["input_ids"][0] == tokenizer.mask_token_id]
    expected = logits.log_softmax(-1)[0, tokenizer.convert_tokens_to_ids(["lovely", "awful", "rotten"])]
    assert torch.allclose(found[0], expected, atol=1e-5)


def decoded(model, source, labels):
    with torch.no_grad():
        return model(input_ids=torch.tensor([source]), labels=torch.tensor([labels])).logits[0]


def test_t5_writes_the_answer_after_its_sentinel(opened):
    model, tokenizer, kind = opened("t5")
    found, _ = scores(model, tokenizer, kind, QUERIES)
    for query, row in zip(QUERIES, found, strict=True):
        for answer, score in zip(ANSWERS, row, strict=True):
            words = tokenizer(answer, add_special_tokens=False)["input_ids"]
            labels = [tokenizer.convert_tokens_to_ids("<extra_id_0>"), *words]
            logits = decoded(model, tokenizer(query.filled("<extra_id_0>"))["input_ids"], labels)
            assert score == pytest.approx(float(mean_chance(logits[1:], words)), abs=1e-5)


def test_an_encoder_decoder_without_a_gap_writes_the_whole_target(opened):
    model, tokenizer, kind = opened("t5")
    query = Query("how was the film", has_gap=False)
    found, _ = scores(model, tokenizer, kind, [query])
    for answer, score in zip(ANSWERS, found[0], strict=True):
        labels = tokenizer(answer)["input_ids"]
        assert labels[-1] == tokenizer.eos_token_id
        logits = decoded(model, tokenizer("how was the film")["input_ids"], labels)
        assert score == pytest.approx(float(mean_chance(logits, labels)), abs=1e-5)


def test_bart_writes_the_whole_text_whose_gap_is_masked(opened):
    model, tokenizer, kind = opened("bart")
    found, _ = scores(model, tokenizer, kind, QUERIES)
    for query, row in zip(QUERIES, found, strict=True):
        for answer, score in zip(ANSWERS, row, strict=True):
            whole = tokenizer(query.filled(answer))["input_ids"]
            first = len(tokenizer(query.before.rstrip())["input_ids"]) - 1
            last = len(tokenizer(query.before + answer)["input_ids"]) - 1
            logits = decoded(model, tokenizer(query.filled("<mask>"))["input_ids"], whole)
            assert score == pytest.approx(float(mean_chance(logits[first:last], whole[first:last])), abs=1e-5)


def test_answers_share_the_sequences_that_begin_alike(opened):
    _, tokenizer, kind = opened("gpt2")
    row = asked(QUERIES[1], ["lovely", "lovely", "lovely day"], tokenizer, kind, None)
    assert len(row.sequences) == 1
    assert {place[1] for place in row.places} == {0}


def test_nothing_to_score_and_no_gap_are_refused(opened):
    _, tokenizer, kind = opened("gpt2")
    with pytest.raises(FinetuneError, match="no token to score"):
        asked(Query("", " it was"), ["l"], tokenizer, kind, None)
    _, tokenizer, kind = opened("bert")
    with pytest.raises(FinetuneError, match="fills a gap"):
        asked(Query("how was it", has_gap=False), ["lovely"], tokenizer, kind, None)
