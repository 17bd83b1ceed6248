"""finetune.tasks.fill_mask: what is hidden, how it is drawn, fills as the pipeline's, and runs from end to end."""

import json
import random
from dataclasses import replace
from types import SimpleNamespace

import numpy
import pytest
import torch
from transformers import AutoModelForMaskedLM, AutoTokenizer, pipeline

from finetune.cli.app import main
from finetune.data.encoding import encode_rows
from finetune.errors import FinetuneError
from finetune.tasks import Context, LabelScheme
from finetune.tasks.fill_mask import TASK, redraw
from tests import tiny

SCHEME = LabelScheme("masked_lm")
TEXTS = [row["text"] for row in tiny.toy_rows()]


def context_of(folder, max_length=64, **settings):
    return Context(AutoTokenizer.from_pretrained(folder), SCHEME, "encoder-only", max_length, settings=settings)


def drawn(context, texts=TEXTS, step=1, seed=0):
    features = TASK.encode({"text": texts}, context)
    draws = [(seed, step, place) for place in range(len(features["input_ids"]))]
    return features, redraw({**features, "draw": draws}, context)


def test_about_the_share_is_hidden_and_of_it_eight_tenths_masked(checkpoints):
    context = context_of(checkpoints("bert"), mlm_probability=0.15)
    plain, hidden = drawn(context, TEXTS * 20)
    ids, seen, labels = (
        numpy.concatenate(rows) for rows in (plain["input_ids"], hidden["input_ids"], hidden["labels"])
    )
    chosen = labels != -100
    special = numpy.isin(ids, context.tokenizer.all_special_ids)
    assert not (chosen & special).any()
    assert chosen[~special].mean() == pytest.approx(0.15, abs=0.01)
    assert (labels[chosen] == ids[chosen]).all()
    assert (seen[~chosen] == ids[~chosen]).all()
    assert (seen[chosen] == context.tokenizer.mask_token_id).mean() == pytest.approx(0.8, abs=0.03)
    assert (seen[chosen] == ids[chosen]).mean() == pytest.approx(0.1, abs=0.03)


def test_each_step_hides_others_and_a_batch_cut_up_the_same(checkpoints):
    context = context_of(checkpoints("bert"))
    features, first = drawn(context)
    assert drawn(context)[1] == first
    assert drawn(context, step=2)[1]["labels"] != first["labels"]
    assert drawn(context, seed=1)[1]["labels"] != first["labels"]
    last = {name: values[90:] for name, values in features.items()} | {
        "draw": [(0, 1, place) for place in range(90, 96)]
    }
    assert redraw(last, context)["labels"] == first["labels"][90:]


def test_evaluations_hide_the_same_whatever_the_batch(checkpoints):
    context = context_of(checkpoints("bert"), mlm_probability=0.5)
    features = TASK.encode({"text": TEXTS}, context)
    whole = redraw(features, context)["labels"]
    assert whole == redraw(features, context)["labels"]
    assert redraw({name: values[7:9] for name, values in features.items()}, context)["labels"] == whole[7:9]
    assert any(label != -100 for row in whole for label in row)


def test_whole_words_are_hidden_with_all_their_sub_words(checkpoints):
    context = context_of(checkpoints("bert"), whole_word_mask=True, mlm_probability=0.4)
    features, hidden = drawn(context, ["lovely xyzzy and qwerty day"] * 30)
    assert "words" not in hidden
    partly = 0
    for words, labels in zip(features["words"], hidden["labels"], strict=True):
        for word in set(words) - {-1}:
            fates = {label != -100 for label, of in zip(labels, words, strict=True) if of == word}
            assert len(fates) == 1
        partly += any(label != -100 for label in labels)
    assert partly > 20


def test_a_long_text_goes_on_in_further_features(checkpoints):
    context = context_of(checkpoints("bert"), max_length=8)
    text = " ".join(tiny.GOOD + tiny.BAD)
    encoded = TASK.encode({"text": ["lovely", text]}, context)
    assert encoded["source"] == [0, 1, 1, 1]
    inside = [
        token for ids in encoded["input_ids"][1:] for token in ids if token not in context.tokenizer.all_special_ids
    ]
    assert inside == context.tokenizer(text, add_special_tokens=False)["input_ids"]
    assert encode_rows({"text": ["lovely", text]}, TASK, context)["cut"] == [0] * 4
    streamed = encode_rows({"text": ["lovely", text]}, TASK, replace(context, single=True))
    assert streamed["cut"] == [0, 1]


def test_loss_adds_up_over_any_split():
    torch.manual_seed(0)
    logits, labels = torch.randn(6, 5, 9), torch.randint(0, 9, (6, 5))
    labels[labels < 5] = -100
    context = Context(None, SCHEME, "encoder-only", 64)

    def parts(rows):
        outputs, batch = SimpleNamespace(logits=logits[rows]), {"labels": labels[rows]}
        sums = TASK.reduce(outputs, batch, context)
        return [float(TASK.loss(outputs, batch, context)), float(TASK.loss_weight(batch, context)), sums["loss"].sum()]

    total, weight, kept = numpy.sum([parts(slice(0, 1)), parts(slice(1, 4)), parts(slice(4, 6))], axis=0)
    expected = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten())
    assert total / weight == pytest.approx(float(expected), rel=1e-6)
    assert kept == pytest.approx(total, rel=1e-6)


def test_texts_without_a_mask_and_tokenizers_without_one_are_named(checkpoints):
    asking = Context(**{**vars(context_of(checkpoints("bert"))), "predicting": True})
    with pytest.raises(FinetuneError, match=r"no text has \[MASK\]"):
        TASK.encode({"text": ["lovely day"]}, asking)
    with pytest.raises(FinetuneError, match="no mask token"):
        TASK.encode({"text": ["lovely day"]}, context_of(checkpoints("gpt2")))


@pytest.fixture
def plain_data(tmp_path):
    """Return a folder of sentences in which the hidden word follows from the others."""
    folder = tmp_path / "plain"
    folder.mkdir()
    pairs = list(zip(tiny.GOOD, tiny.BAD, strict=True))
    rows = [f"{good} and {good} again but never {bad} {bad}" for good, bad in pairs] * 24
    random.Random(1).shuffle(rows)
    for split, part in {"train": rows[:128], "validation": rows[128:160], "test": rows[160:]}.items():
        (folder / f"{split}.txt").write_text("".join(f"{row}\n" for row in part))
    return folder


def run_of(tmp_path):
    [directory] = (tmp_path / "runs").iterdir()
    return directory, json.loads((directory / "run.json").read_text())


def test_a_tiny_model_learns_what_is_hidden(toy_recipe, plain_data, tmp_path, capsys):
    recipe = toy_recipe(
        "bert", task="fill-mask", dataset={"path": str(plain_data)},
        training={"num_train_epochs": 60, "learning_rate": 3e-3, "eval_strategy": "no"},
    )  # fmt: skip
    assert main(["run", str(recipe)]) == 0
    assert "new weights, not in the checkpoint" in capsys.readouterr().err  # a checkpoint without a trained head
    directory, record = run_of(tmp_path)
    scores = record["metrics"]["test"]
    assert scores["accuracy"]["value"] > 0.9
    assert 1 < scores["perplexity"]["value"] < 2 < 50 < record["baselines"]["untrained"]["perplexity"]["value"]
    source = tmp_path / "masked.txt"
    source.write_text(
        "lovely and [MASK] again but never awful awful\nlovely and [MASK] again [MASK] never awful awful\n"
    )
    assert main(["predict", str(directory), str(source)]) == 0
    said = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert said[0]["prediction"].startswith("lovely and lovely again")
    fill = pipeline("fill-mask", model=str(directory / "model"))
    one, two = (fill(text) for text in source.read_text().splitlines())
    for ours, theirs in zip([*said[0]["fills"], *said[1]["fills"]], [one, *two], strict=True):
        assert [guess["score"] for guess in ours] == pytest.approx([guess["score"] for guess in theirs], abs=1e-5)
        for key in ("token", "token_str", "sequence"):
            assert [guess[key] for guess in ours] == [guess[key] for guess in theirs]
    assert main(["predict", str(directory), str(source), "--top-k", "2"]) == 0
    asked = [json.loads(line)["fills"] for line in capsys.readouterr().out.splitlines()]
    assert asked == [[[pytest.approx(guess) for guess in fill[:2]] for fill in line["fills"]] for line in said]


def test_the_same_is_hidden_however_a_step_is_cut_up(toy_recipe, plain_data, tmp_path):
    losses = {}
    for size, count in ((8, 1), (2, 4)):
        recipe = toy_recipe(
            "bert", task="fill-mask", filename=f"c{count}.yaml", output_dir=str(tmp_path / f"c{count}"),
            dataset={"path": str(plain_data)},
            training={
                "max_steps": 4, "eval_strategy": "no", "per_device_train_batch_size": size,
                "gradient_accumulation_steps": count,
            },
        )  # fmt: skip
        assert main(["run", str(recipe)]) == 0
        [directory] = (tmp_path / f"c{count}").iterdir()
        log = [json.loads(line) for line in (directory / "log.jsonl").read_text().splitlines()]
        losses[count] = [line["loss"] for line in log if "loss" in line]
    assert losses[4] == pytest.approx(losses[1], rel=1e-5)


@pytest.mark.parametrize("packing", [False, True], ids=["rows", "packed"])
@pytest.mark.parametrize("family", ["bert", "distilbert", "roberta", "electra", "modernbert"])
def test_every_family_takes_a_step_and_comes_back(family, packing, toy_recipe, plain_data, tmp_path, capsys):
    recipe = toy_recipe(
        family, task="fill-mask", dataset={"path": str(plain_data), "max_eval_samples": 4},
        preprocessing={"packing": packing, "whole_word_mask": True}, training={"max_steps": 2, "eval_strategy": "no"},
    )  # fmt: skip
    assert main(["run", str(recipe)]) == 0
    directory, record = run_of(tmp_path)
    assert record["metrics"]["test"]["perplexity"]["value"] > 1
    AutoModelForMaskedLM.from_pretrained(directory / "model")
    assert ("packed into" in capsys.readouterr().err) == packing


@pytest.mark.parametrize(
    ("family", "changes", "words"),
    [
        ("gpt2", {}, "gpt2 model is decoder-only, and fill-mask is for encoder-only"),
        ("bert", {"preprocessing": {"mlm_probability": 1.5}}, "preprocessing.mlm_probability"),
        ("bert", {"task": "text-classification", "preprocessing": {"whole_word_mask": True}}, "has no use for it"),
        (
            "bert",
            {"evaluation": {"metrics": ["rouge"]}},
            "rouge is a metric of text2text-generation; fill-mask has perplexity and accuracy",
        ),
        (
            "bert",
            {"evaluation": {"metrics": ["owner/own_metric"]}},
            "gives no answers that owner/own_metric could compare with references; fill-mask has perplexity and",
        ),
    ],
)
def test_wrong_recipes_are_one_clear_error(family, changes, words, toy_recipe, plain_data, capsys):
    sections = {"task": "fill-mask", "dataset": {"path": str(plain_data)}, **changes}
    assert main(["run", str(toy_recipe(family, **sections))]) == 1
    error = capsys.readouterr().err
    assert words in error
    assert "Traceback" not in error
