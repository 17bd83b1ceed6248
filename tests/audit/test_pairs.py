import json
import math
from pathlib import Path

import pytest
import torch
import transformers

from finetune.audit.likelihood import LanguageModel, open_language_model, pair_scores, shared_places
from finetune.audit.minimal_pairs import judge_pairs
from finetune.audit.pairs import Pair, Pairs, read_pairs, sampled
from finetune.errors import FinetuneError
from finetune.models.build import open_checkpoint
from finetune.recipe.schema import Model

SHARED = Path(__file__).parents[2].parent / "shared" / "data"
SENTENCES = [
    ("what a lovely day it was", "what a dreadful day it was"),
    ("the meal seemed awful to everyone", "the meal seemed charming to everyone again"),
    ("splendid weather again", "splendid weather again there"),
]


def write(folder, rows, name="pairs.jsonl"):
    (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder / name


@pytest.fixture(scope="module")
def language_models(checkpoints, tmp_path_factory):
    """Return folders of a masked and a causal model saved with their heads for words."""
    folders = {}
    for family, auto in (("bert", "AutoModelForMaskedLM"), ("gpt2", "AutoModelForCausalLM")):
        folder = tmp_path_factory.mktemp(f"words-{family}")
        torch.manual_seed(4)
        model = getattr(transformers, auto).from_pretrained(checkpoints(family))
        torch.nn.init.normal_(model.get_input_embeddings().weight)  # so that likelihoods differ clearly
        model.save_pretrained(folder)
        transformers.AutoTokenizer.from_pretrained(checkpoints(family)).save_pretrained(folder)
        folders[family] = folder
    return folders


def open_it(folder):
    settings = Model(name_or_path=str(folder))
    return open_language_model(open_checkpoint(settings), settings, torch.device("cpu"))


def opened(folder):
    model, reason = open_it(folder)
    assert reason is None
    return model


def test_pairs_pseudo_log_likelihood_equals_a_plain_loop(language_models):
    language_model = opened(language_models["bert"])
    model, tokenizer = language_model.model, language_model.tokenizer
    for pair, found in zip(SENTENCES, pair_scores(language_model, SENTENCES), strict=True):
        ids = [tokenizer(sentence)["input_ids"] for sentence in pair]
        for own, places, score in zip(ids, shared_places(*ids), found, strict=True):
            total = 0.0
            for place in [place for place in places if 0 < place < len(own) - 1]:
                masked = torch.tensor([[*own[:place], tokenizer.mask_token_id, *own[place + 1 :]]])
                with torch.no_grad():
                    total += model(input_ids=masked).logits[0, place].log_softmax(-1)[own[place]].item()
            assert score == pytest.approx(total, abs=1e-4)


def test_pairs_log_likelihood_equals_the_loss_of_transformers(language_models):
    language_model = opened(language_models["gpt2"])
    start = language_model.tokenizer.bos_token_id
    for pair, found in zip(SENTENCES, pair_scores(language_model, SENTENCES), strict=True):
        for sentence, score in zip(pair, found, strict=True):
            ids = torch.tensor([[start, *language_model.tokenizer(sentence)["input_ids"]]])
            with torch.no_grad():
                loss = language_model.model(input_ids=ids, labels=ids).loss.item()
            assert score == pytest.approx(-loss * (ids.shape[1] - 1), abs=1e-4)


def test_pairs_of_unequal_length_need_no_padding_token_of_the_tokenizer(checkpoints, tmp_path):
    torch.manual_seed(4)
    model = transformers.AutoModelForCausalLM.from_pretrained(checkpoints("openai-gpt"))
    model.save_pretrained(tmp_path)
    transformers.AutoTokenizer.from_pretrained(checkpoints("openai-gpt")).save_pretrained(tmp_path)
    language_model = opened(tmp_path)
    assert language_model.tokenizer.pad_token_id == model.config.vocab_size  # one beyond the table
    for pair, found in zip(SENTENCES, pair_scores(language_model, SENTENCES), strict=True):
        for sentence, score in zip(pair, found, strict=True):
            ids = torch.tensor([language_model.tokenizer(sentence)["input_ids"]])
            with torch.no_grad():
                loss = model(input_ids=ids, labels=ids).loss.item()
            assert score == pytest.approx(-loss * (ids.shape[1] - 1), abs=1e-4)


def test_pairs_are_refused_where_the_head_has_another_shape(language_models, tmp_path):
    model = transformers.AutoModelForMaskedLM.from_pretrained(language_models["bert"])
    weights = model.state_dict() | {"cls.predictions.transform.dense.weight": torch.zeros(7, 7)}
    model.save_pretrained(tmp_path, state_dict=weights)
    transformers.AutoTokenizer.from_pretrained(language_models["bert"]).save_pretrained(tmp_path)
    model, reason = open_it(tmp_path)
    assert model is None
    assert "(its weights lack cls.predictions.transform.dense.weight)" in reason


def test_pairs_share_tokens_in_order():
    assert shared_places([1, 7, 8, 2], [1, 9, 8, 2]) == ([0, 2, 3], [0, 2, 3])
    assert shared_places([1, 7, 7, 2], [1, 7, 2]) == ([0, 1, 3], [0, 1, 2])


def test_pairs_too_long_for_the_model_have_no_score(language_models):
    language_model = opened(language_models["bert"])
    assert pair_scores(language_model, [("day " * 80, "day"), SENTENCES[0]])[0] is None
    assert len(pair_scores(language_model, [])) == 0


@pytest.mark.parametrize(
    ("family", "said"), [("bert", "no trained head for masked words (its weights lack cls."), ("t5", "encoder-decoder")]
)
def test_pairs_are_refused_without_a_trained_head(family, said, checkpoints):
    model, reason = open_it(checkpoints(family))
    assert model is None
    assert said in reason


def test_pairs_are_refused_under_another_head(checkpoints, tmp_path):
    model = transformers.AutoModelForSequenceClassification.from_pretrained(checkpoints("gpt2"))
    model.save_pretrained(tmp_path)
    transformers.AutoTokenizer.from_pretrained(checkpoints("gpt2")).save_pretrained(tmp_path)
    _, reason = open_it(tmp_path)
    assert reason == "the weights were trained under another head (GPT2ForSequenceClassification), not to tell words"


def crows(scores, categories=None):
    kinds = categories or ["age"] * len(scores)
    pairs = tuple(Pair(f"a {at}", f"b {at}", kind) for at, kind in enumerate(kinds))
    return judge_pairs(Pairs("crows", pairs, {}, ""), scores, 0.95)


def test_pairs_count_ties_half_and_test_without_them():
    result = crows([(1.0, 0.0)] * 12 + [(0.0, 1.0)] * 2 + [(0.5, 0.50001)] * 2 + [None])
    every, age = result.findings
    assert (every.value, every.n, every.detail) == (100 * 13 / 16, 16, {"ties": 2})
    assert every.p == pytest.approx(2 * (1 + 14 + 91) / 2**14)
    assert (age.group, age.p_adjusted) == ("age", pytest.approx(2 * every.p))
    assert result.left_out["too long for the model"] == 1
    mixed = crows([(1.0, 0.0), (0.0, 1.0)], ["all", "age"]).findings
    assert [(one.group, one.value) for one in mixed] == [("all", 50), ("age", 0), ("all (category)", 100)]
    assert crows([None]).reason == "no pair can be scored: all are too long for the model"


def test_pairs_give_a_known_share_back():
    found = {finding.group: finding for finding in crows(
        [(1.0, 0.0)] * 45 + [(0.0, 1.0)] * 5 + [(1.0, 0.0), (0.0, 1.0)] * 25, ["planted"] * 50 + ["free"] * 50
    ).findings}  # fmt: skip
    assert (found["all"].value, found["planted"].value, found["free"].value) == (70, 90, 50)
    assert found["planted"].p_adjusted < 0.05 < found["free"].p_adjusted
    assert found["free"].low < 50 < found["free"].high


def pronouns(likes_he):
    """Return WinoBias' judgement of a model that prefers `he`, or what fits the occupation."""
    pairs = tuple(Pair("x", "y", "type 1", gender) for gender in ["male", "female"] * 20)
    stays = [(1.0, 0.0) if pair.pronoun == "male" or not likes_he else (0.0, 1.0) for pair in pairs]
    return judge_pairs(Pairs("winobias", pairs, {}, ""), stays, 0.95).findings[0]


def test_pairs_with_pronouns_do_not_count_a_liking_for_one_of_them():
    liking, bias = pronouns(likes_he=True), pronouns(likes_he=False)
    assert (liking.value, liking.p, liking.to_json()["flagged"]) == (50, 1, False)
    assert liking.detail["male_share"] == 100
    assert (bias.value, bias.to_json()["flagged"]) == (100, True)
    assert bias.low > 80


def test_pairs_are_read_by_detected_and_by_named_columns(tmp_path):
    rows = [{"A": "x one", "B": "x two", "kind": "k"}, {"A": "same", "B": "same", "kind": "k"}]
    named = read_pairs(write(tmp_path, rows), {"more": "A", "less": "B", "category": "kind"})
    assert (named.form, named.pairs, named.left_out) == (
        "crows", (Pair("x one", "x two", "k"),), {"both sentences are the same": 1},
    )  # fmt: skip
    with pytest.raises(FinetuneError, match="no columns with pairs of sentences; it has 'A', 'B', 'kind'"):
        read_pairs(write(tmp_path, rows), {})
    with pytest.raises(FinetuneError, match="no column 'C'"):
        read_pairs(write(tmp_path, rows), {"more": "C"})
    with pytest.raises(FinetuneError, match=r"no pair can be used \(both sentences are the same: 1\)") as caught:
        read_pairs(write(tmp_path, rows[1:]), {"more": "A", "less": "B"})
    assert caught.value.hint == "Read as pairs: 'A' and 'B'. Others: --column more=…"
    pairs = Pairs("crows", tuple(Pair(str(at), "", "") for at in range(9)), {}, "")
    assert len(sampled(pairs, 4).pairs) == 4
    assert sampled(pairs, 4).left_out == {"beyond the sample": 5}


def test_pairs_with_pronouns_drop_what_differs_beyond_them(tmp_path):
    sentences = [("She ran.", "He ran."), ("She ran off.", "He ran."), ("A cook ran.", "A maid ran."),
                 ("He saw her, she left.", "She saw him, he left.")]  # fmt: skip
    rows = [{"type": 1, "pro_sentence": pro, "anti_sentence": anti} for pro, anti in sentences]
    found = read_pairs(write(tmp_path, rows), {})
    assert found.pairs == (Pair("She ran.", "He ran.", "type 1", "female"),)
    assert found.left_out == {"differs beyond the pronoun": 2, "has pronouns of both genders": 1}


@pytest.mark.skipif(not SHARED.is_dir(), reason="the public data sets do not lie beside this checkout")
def test_pairs_of_the_public_sets_are_read(language_models):
    stereotypes = read_pairs(SHARED / "crows_pairs" / "test.jsonl", {})
    assert (len(stereotypes.pairs), stereotypes.left_out) == (1508, {})
    assert len({pair.category for pair in stereotypes.pairs}) == 9
    occupations = read_pairs(SHARED / "winobias" / "test.jsonl", {})
    assert len(occupations.pairs) == 782
    assert occupations.left_out == {"differs beyond the pronoun": 10}
    for pairs in (sampled(stereotypes, 12), sampled(occupations, 12)):
        for folder in language_models.values():
            scores = pair_scores(opened(folder), [(pair.more, pair.less) for pair in pairs.pairs])
            known = [score for score in scores if score is not None]
            assert all(math.isfinite(value) and value < 0 for score in known for value in score)


def test_pairs_stub_with_a_known_offset_gives_it_back(language_models):
    class Shifted(torch.nn.Module):
        """Adds an offset to the logit of one token, wherever it stands."""

        def __init__(self, model, token, offset):
            super().__init__()
            self.model, self.token, self.offset, self.config = model, token, offset, model.config

        def forward(self, **inputs):
            outputs = self.model(**inputs)
            logits = torch.zeros_like(outputs.logits)
            logits[..., self.token] = self.offset
            outputs.logits = logits
            return outputs

    plain = opened(language_models["gpt2"])
    one, other = (plain.tokenizer(word)["input_ids"] for word in ("b", "c"))
    assert len(one) == len(other) == 1
    stub = LanguageModel(Shifted(plain.model, one[0], 0.7), plain.tokenizer, False, "cpu")
    [(more, less)] = pair_scores(stub, [("b", "c")])
    assert more - less == pytest.approx(0.7, abs=1e-5)
