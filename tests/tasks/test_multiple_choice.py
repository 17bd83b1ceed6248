"""finetune.tasks.multiple_choice: encoding, loss, likelihood, the shapes of its data, and runs from end to end."""

import json
from types import SimpleNamespace

import numpy
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForMultipleChoice, AutoTokenizer

from finetune.cli.app import main
from finetune.data.batching import model_inputs
from finetune.data.encoding import encode_rows
from finetune.data.sources import load_data
from finetune.errors import FinetuneError
from finetune.recipe.schema import Recipe
from finetune.tasks import Context, LabelScheme, all_tasks
from finetune.tasks.multiple_choice import CHOICE, TASK, collate, reduce
from tests import tiny

HEADS = ("bert", "distilbert")
LIKELIHOODS = ("openai-gpt", "gpt2", "gpt_neo", "opt")


def context_of(folder, kind="encoder-only", max_length=64, **others):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    return Context(tokenizer, LabelScheme(CHOICE), kind, max_length, **others)


def rows_of(*choices, question="what was lovely", **others):
    rows = {"question": [question] * len(choices), "choices": [list(each) for each in choices]}
    return rows | {role: [value] * len(choices) for role, value in others.items()}


def test_each_choice_is_a_pair_with_context_and_question(checkpoints):
    context = context_of(checkpoints("bert"))
    rows = rows_of(["bright", "a rotten day"], ["nasty", "superb", "lovely"], context="her answer")
    features = TASK.encode(rows, context)
    decoded = [[context.tokenizer.decode(ids) for ids in row] for row in features["input_ids"]]
    assert decoded[0] == [
        "[CLS] her answer what was lovely [SEP] bright [SEP]",
        "[CLS] her answer what was lovely [SEP] a rotten day [SEP]",
    ]
    assert list(map(len, decoded)) == [2, 3]
    assert features["longest"] == [len(features["input_ids"][0][1]), len(features["input_ids"][1][0])]
    assert features["length"] == [sum(map(len, choices)) for choices in features["input_ids"]]


def test_what_is_too_long_loses_the_beginning_of_its_prompt(checkpoints):
    question = "what was " + "dismal " * 30 + "lovely"
    for family, kind in (("bert", "encoder-only"), ("gpt2", "decoder-only")):
        context = context_of(checkpoints(family), kind, max_length=12)
        features = encode_rows(rows_of(["bright", "rotten"], question=question), TASK, context)
        [row] = features["input_ids"]
        assert [len(ids) for ids in row] == [12, 12] or family == "gpt2"
        assert max(map(len, row)) <= 12
        text = context.tokenizer.decode(row[0], skip_special_tokens=True)
        assert text.endswith("dismal lovely bright")
        assert features["full_length"] == [features["full_length"][0]]
        assert features["full_length"][0] > 12


@pytest.mark.parametrize("family", LIKELIHOODS)
def test_the_tokens_of_the_choice_are_scored(family, checkpoints):
    context = context_of(checkpoints(family), "decoder-only")
    features = TASK.encode(rows_of(["bright", "so horrid"]), context)
    for ids, scored, choice in zip(
        features["input_ids"][0], features["scored"][0], ["bright", "so horrid"], strict=True
    ):
        kept = [token for token, mark in zip(ids, scored, strict=True) if mark]
        said = context.tokenizer.decode(kept).replace("</w>", "")
        assert said.replace(" ", "") == choice.replace(" ", "")


def numbers_of(context, rows, model):
    """Return the model's outputs for some rows and their batch."""
    features = TASK.encode(rows, context)
    batch = collate(features, context)
    with torch.no_grad():
        return model(**model_inputs(batch)), batch


@pytest.mark.parametrize("family", LIKELIHOODS)
def test_likelihood_is_the_mean_log_probability_of_the_choice(family, checkpoints):
    context = context_of(checkpoints(family), "decoder-only")
    model = AutoModelForCausalLM.from_pretrained(checkpoints(family)).eval()
    if len(context.tokenizer) > model.get_input_embeddings().num_embeddings:
        model.resize_token_embeddings(len(context.tokenizer))
    choices = [["bright", "so horrid", "a gloomy dreadful day"], ["superb", "nasty"]]
    kept = reduce(*numbers_of(context, rows_of(*choices), model), context)
    for row, expected in zip(kept["probabilities"], choices, strict=True):
        means = []
        for choice in expected:
            text = f"what was lovely {choice}"
            encoded = context.tokenizer(text, return_offsets_mapping=True, return_tensors="pt")
            with torch.no_grad():
                chances = model(input_ids=encoded["input_ids"]).logits[0].log_softmax(-1)
            ids, offsets = encoded["input_ids"][0].tolist(), encoded["offset_mapping"][0].tolist()
            own = [at for at, (_, end) in enumerate(offsets) if end > len("what was lovely")]
            means.append(numpy.mean([float(chances[at - 1, ids[at]]) for at in own]))
        assert row == pytest.approx(torch.tensor(means).softmax(0).numpy(), abs=1e-4)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_loss_adds_up_over_rows_with_different_numbers_of_choices(smoothing):
    torch.manual_seed(0)
    counts, labels = torch.tensor([2, 4, 3]), torch.tensor([1, 0, 2])
    logits = torch.randn(9, 1)
    context = Context(None, LabelScheme(CHOICE), "encoder-only", 64, label_smoothing=smoothing)
    ends = counts.cumsum(0).tolist()

    def parts(first, last):
        chosen = slice(ends[first] - int(counts[first]), ends[last - 1])
        batch = {"choices": counts[first:last], "labels": labels[first:last]}
        outputs = SimpleNamespace(logits=logits[chosen])
        return float(TASK.loss(outputs, batch, context)), float(TASK.loss_weight(batch, context))

    expected = sum(
        float(torch.nn.functional.cross_entropy(logits[end - count : end, 0], label, label_smoothing=smoothing))
        for end, count, label in zip(ends, counts.tolist(), labels, strict=True)
    )
    total, weight = numpy.sum([parts(0, 1), parts(1, 3)], axis=0)
    assert (total, weight) == (pytest.approx(expected, rel=1e-6), 3)


def load(folder, rows, **section):
    folder.mkdir(exist_ok=True)
    for name in ("train", "validation"):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = {"task": TASK.name, "model": {"name_or_path": "any"}, "dataset": {"path": str(folder), **section}}
    return load_data(Recipe.model_validate(recipe), TASK)


def answers_of(data):
    return list(data.splits["train"]["answer"])


CHOICES = ["red", "green", "blue"]


@pytest.mark.parametrize(
    ("answers", "places", "note"),
    [
        ([0, 2, 1], [0, 2, 1], None),
        ([1, 3, 2], [0, 2, 1], "count the choices from 1"),
        (["0", "2"], [0, 2], None),
        (["A", "C", "b"], [0, 2, 1], None),
        (["(B)", "C."], [1, 2], None),
        (["B", "3", "1"], [1, 2, 0], "count the choices from 1"),
        (["green", "red"], [1, 0], None),
    ],
)
def test_answers_are_read_as_places_letters_or_texts(tmp_path, answers, places, note):
    data = load(tmp_path / "data", [{"question": "which?", "choices": CHOICES, "answer": a} for a in answers])
    assert answers_of(data) == places
    assert (note is None) == (not [said for said in data.notes if "count" in said])
    assert note is None or any(note in said for said in data.notes)


def test_hidden_answers_of_a_test_split_leave_it_out(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    hidden = [{"question": "which?", "choices": CHOICES, "answer": -1}] * 3
    (folder / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in hidden))
    data = load(folder, [{"question": "which?", "choices": CHOICES, "answer": place} for place in range(3)])
    assert "test" not in data.splits


def test_arc_and_swag_are_read_as_they_come(tmp_path):
    arc = {"text": ["sun", "moon"], "label": ["A", "B"]}
    rows = [{"id": "1", "question": "what shines?", "choices": arc, "answerKey": "A"}] * 2
    data = load(tmp_path / "arc", [*rows, rows[0] | {"answerKey": "B"}])
    assert data.splits["train"]["choices"][0] == ["sun", "moon"]
    assert answers_of(data) == [0, 0, 1]
    swag = {"sent1": "She sits.", "sent2": "She", **{f"ending{place}": f"goes {place}" for place in range(4)}}
    data = load(tmp_path / "swag", [swag | {"label": label} for label in (0, 3)])
    assert data.columns["context"] == "sent1"
    assert data.splits["train"].column_names[:6] == [
        "question",
        "context",
        "choice_1",
        "choice_2",
        "choice_3",
        "choice_4",
    ]
    assert answers_of(data) == [0, 3]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"answer": "yellow"}, "the answer 'yellow' is none of the 3 choices"),
        ({"answer": 7}, "the answer 7 is none of the 3 choices"),
        ({"answer": "E"}, "the answer 'E' is none of the 3 choices"),
        ({"choices": ["red"], "answer": 0}, "1 choice, where at least two are meant"),
        ({"choices": ["red", " "], "answer": 0}, "2 choices, one of them empty"),
        ({"answer": 0.5}, "the answer 0.5 names no choice"),
    ],
)
def test_answers_that_name_no_choice_are_refused(tmp_path, row, said):
    with pytest.raises(FinetuneError, match=f"train.jsonl:1: {said}"):
        load(tmp_path / "data", [{"question": "which?", "choices": CHOICES} | row])


def test_numbers_that_could_count_from_0_or_1_are_refused(tmp_path):
    with pytest.raises(FinetuneError, match="from 0 or from 1"):
        load(tmp_path / "data", [{"question": "which?", "choices": CHOICES, "answer": place} for place in (1, 2)])


@pytest.fixture(scope="session")
def toy_choices(tmp_path_factory):
    folder = tmp_path_factory.mktemp("choices")
    rows = tiny.toy_choices(count=192)
    for split, part in {"train": rows[:-32], "validation": rows[-32:-16], "test": rows[-16:]}.items():
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))
    return folder


def run_of(tmp_path):
    [directory] = (tmp_path / "runs").iterdir()
    return directory, json.loads((directory / "run.json").read_text())


def lines_of(text):
    return [json.loads(line) for line in text.splitlines()]


def by_hand(folder, rows, family):
    """Return the probabilities of the choices with transformers alone."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    auto = AutoModelForMultipleChoice if family in HEADS else AutoModelForCausalLM
    model = auto.from_pretrained(folder).eval()
    for row in rows:
        if family in HEADS:
            pairs = tokenizer([row["question"]] * 4, row["choices"], padding=True, return_tensors="pt")
            with torch.no_grad():
                yield model(**{name: values[None] for name, values in pairs.items()}).logits[0].softmax(0).numpy()
            continue
        means = []
        for choice in row["choices"]:
            ids = tokenizer(f"{row['question']} {choice}", return_tensors="pt")["input_ids"]
            start = len(tokenizer(row["question"])["input_ids"])
            with torch.no_grad():
                chances = model(input_ids=ids).logits[0, :-1].log_softmax(-1).gather(1, ids[0, 1:, None])[:, 0]
            means.append(chances[start - 1 :].mean())
        yield torch.stack(means).softmax(0).numpy()


@pytest.mark.parametrize("family", [*HEADS, *LIKELIHOODS])
def test_run_learns_held_out_rows_and_answers_as_transformers_does(family, toy_choices, toy_recipe, tmp_path, capsys):
    learns = family in ("bert", "gpt2")
    recipe = toy_recipe(
        family, task="multiple-choice", dataset={"path": str(toy_choices)},
        training={"num_train_epochs": 10} if learns else {"max_steps": 1},
    )  # fmt: skip
    assert main(["run", str(recipe)]) == 0, capsys.readouterr().err
    directory, run = run_of(tmp_path)
    assert numpy.isfinite(run["training"]["train_loss"])
    accuracy = run["metrics"]["test"]["accuracy"]
    assert accuracy["low"] <= accuracy["value"] <= accuracy["high"]
    if learns:
        assert accuracy["value"] >= 0.9
        assert run["baselines"]["majority"]["accuracy"]["value"] < 0.6
    capsys.readouterr()
    assert main(["predict", str(directory), str(toy_choices / "test.jsonl")]) == 0
    said = lines_of(capsys.readouterr().out)
    reported = lines_of((directory / "predictions-test.jsonl").read_text())
    rows = lines_of((toy_choices / "test.jsonl").read_text())
    assert [row["prediction"] for row in said] == [row["prediction"] for row in reported]
    assert [row["reference"] for row in reported] == [row["answer"] for row in rows]
    assert [row["choice"] for row in said] == [row["choices"][row["prediction"]] for row in said]
    for row, expected in zip(said, by_hand(directory / "model", rows, family), strict=True):
        assert row["probabilities"] == pytest.approx(expected, abs=1e-4)
        assert row["probability"] == max(row["probabilities"])


def test_an_encoder_decoder_is_refused(toy_choices, toy_recipe, capsys):
    recipe = toy_recipe("bart", task="multiple-choice", dataset={"path": str(toy_choices)})
    assert main(["run", str(recipe)]) == 1
    said = capsys.readouterr().err
    assert "a bart model is encoder-decoder, and multiple-choice is for encoder-only or decoder-only ones" in said


def test_the_task_is_in_the_registry():
    assert all_tasks()["multiple-choice"] is TASK
