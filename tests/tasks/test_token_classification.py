"""finetune.tasks.token_classification: alignment, loss, entities, windows, and runs of it from end to end."""

import json
from types import SimpleNamespace

import numpy
import pytest
import torch
from transformers import AutoTokenizer

from finetune.cli.app import main
from finetune.tasks import Context, LabelScheme, all_tasks
from finetune.tasks.token_classification import TASK, answer, entities_of, formulas, line, measure
from tests import tiny

ENTITIES = LabelScheme("entities", ("O", "B-gloom", "I-gloom", "B-joy", "I-joy"))
FAMILIES = ("bert", "distilbert", "gpt2", "gpt_neo", "t5")


def context_of(folder, labels=ENTITIES, max_length=64, **settings):
    return Context(AutoTokenizer.from_pretrained(folder), labels, "encoder-only", max_length, settings=settings)


def ids_of(tags):
    return [ENTITIES.names.index(tag) for tag in tags]


@pytest.mark.parametrize("family", FAMILIES)
def test_encode_tags_the_first_sub_word_of_each_token(family, checkpoints):
    context = context_of(checkpoints(family))
    tokens, tags = ["Strange", "weather,", "lovely", "xyzzy!"], [0, 0, 3, 1]
    encoded = TASK.encode({"tokens": [tokens], "tags": [tags]}, context)
    [starts], [ends], [labels] = encoded["starts"], encoded["ends"], encoded["labels"]
    text = " ".join(tokens)
    assert [text[start:end] for start, end in zip(starts, ends, strict=True) if start >= 0] == tokens
    assert [label for label in labels if label != -100] == tags
    assert [start >= 0 for start in starts] == [label != -100 for label in labels]
    assert len(starts) == len(encoded["input_ids"][0]) > len(tokens)


def test_encode_may_tag_all_sub_words(checkpoints):
    context = context_of(checkpoints("bert"), label_all_tokens=True)
    encoded = TASK.encode({"tokens": [["lovely", "xyz", "day"]], "tags": [ids_of(["O", "B-joy", "O"])]}, context)
    assert encoded["labels"] == [[-100, 0, 3, 4, 4, 0, -100]]


def test_encode_cuts_long_rows_into_windows_and_answer_joins_them(checkpoints):
    context = context_of(checkpoints("bert"), max_length=8, return_overflowing_tokens=True)
    context = Context(**{**vars(context), "doc_stride": 2})
    tokens = [*tiny.GOOD, *tiny.BAD]
    encoded = TASK.encode({"tokens": [["lovely"], tokens], "tags": [[3], [0] * 16]}, context)
    assert encoded["source"] == [0, 1, 1, 1, 1]
    starts = [[start for start in row if start >= 0] for row in encoded["starts"]]
    assert {start for row in starts[1:] for start in row} == {i for i in range(200) if i in bounds(tokens)}
    features = [
        {"prediction": numpy.full(len(row), place), "score": numpy.full(len(row), 0.5), "start": numpy.array(row),
         "end": numpy.array(row) + 1}
        for place, row in enumerate(starts[1:])
    ]  # fmt: skip
    joined = answer(features, {"tokens": tokens}, context)
    assert joined["start"] == bounds(tokens)
    # Six words a window, two in common: the one stands at the edge of the first, the other at that of the second.
    assert joined["prediction"] == [0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3]


def bounds(tokens):
    return [len(" ".join([*tokens[:place], ""])) for place in range(len(tokens))]


def test_answer_has_no_tag_for_tokens_that_were_cut(checkpoints):
    context = context_of(checkpoints("bert"))
    feature = {"prediction": [3], "score": [0.9], "start": [0], "end": [6]}
    found = answer([feature], {"tokens": ["lovely", "day"]}, context)
    assert line(found, {"tokens": ["lovely", "day"]}, context) == {
        "prediction": ["B-joy", None],
        "entities": [{"entity_group": "joy", "score": 0.9, "word": "lovely", "start": 0, "end": 6}],
    }


def test_loss_counts_tags_and_adds_up_over_the_parts_of_a_batch():
    torch.manual_seed(0)
    logits, labels = torch.randn(6, 5, 5), torch.randint(0, 5, (6, 5))
    labels[labels == 0] = -100
    context = Context(None, ENTITIES, "encoder-only", 64)
    expected = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten())

    def parts(rows):
        outputs, batch = SimpleNamespace(logits=logits[rows]), {"labels": labels[rows]}
        return float(TASK.loss(outputs, batch, context)), float(TASK.loss_weight(batch, context))

    total, weight = numpy.sum([parts(slice(0, 1)), parts(slice(1, 4)), parts(slice(4, 6))], axis=0)
    assert weight == int((labels != -100).sum())
    assert total / weight == pytest.approx(float(expected), rel=1e-6)


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        (["O", "B-joy", "I-joy", "O"], [(1, 3, "joy")]),
        (["B-joy", "B-joy"], [(0, 1, "joy"), (1, 2, "joy")]),
        (["I-joy", "I-gloom"], [(0, 1, "joy"), (1, 2, "gloom")]),
        (["B-joy", "I-gloom", "I-gloom"], [(0, 1, "joy"), (1, 3, "gloom")]),
        (["O", "O"], []),
    ],
)
def test_entities_are_read_as_conlleval_reads_them(tags, expected):
    assert entities_of(ids_of(tags), ENTITIES) == expected


def test_scores_equal_seqeval():
    seqeval = pytest.importorskip("seqeval.metrics", reason="seqeval is not installed")
    draw = numpy.random.default_rng(0)
    truth, guess = ([draw.integers(0, 5, 12).tolist() for _ in range(40)] for _ in range(2))
    context = Context(None, ENTITIES, "encoder-only", 64)
    sums = numpy.sum(
        [measure({"prediction": said}, {"tags": true}, context) for said, true in zip(guess, truth, strict=True)],
        axis=0,
    )
    values = {name: float(formula(sums)) for name, formula in formulas(ENTITIES).items()}
    names = [[[ENTITIES.names[tag] for tag in row] for row in side] for side in (truth, guess)]
    for name in ("f1", "precision", "recall"):
        assert values[name] == pytest.approx(getattr(seqeval, f"{name}_score")(*names))
    assert values["accuracy"] == pytest.approx(seqeval.accuracy_score(*names))
    report = seqeval.classification_report(*names, output_dict=True)
    for kind in ("joy", "gloom"):
        assert values[f"f1_{kind}"] == pytest.approx(report[kind]["f1-score"])
        assert values[f"precision_{kind}"] == pytest.approx(report[kind]["precision"])
        assert values[f"recall_{kind}"] == pytest.approx(report[kind]["recall"])


def test_scores_of_entities_by_hand():
    context = Context(None, ENTITIES, "encoder-only", 64)
    true, said = ["B-joy", "I-joy", "O", "B-gloom"], ["B-joy", "O", "O", "B-gloom"]
    sums = numpy.array(measure({"prediction": ids_of(said)}, {"tags": ids_of(true)}, context))
    values = {name: float(formula(sums)) for name, formula in formulas(ENTITIES).items()}
    assert values == {
        "f1": 0.5, "precision": 0.5, "recall": 0.5, "accuracy": 0.75,
        "f1_gloom": 1.0, "precision_gloom": 1.0, "recall_gloom": 1.0,
        "f1_joy": 0.0, "precision_joy": 0.0, "recall_joy": 0.0,
    }  # fmt: skip


@pytest.fixture(scope="session")
def tagged_data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tagged")
    rows = tiny.toy_tagged_rows()
    for split, part in {"train": rows[:64], "validation": rows[64:80], "test": rows[80:]}.items():
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))
    return folder


def run_of(tmp_path, capsys):
    [directory] = (tmp_path / "runs").iterdir()
    return directory, json.loads((directory / "run.json").read_text())


@pytest.mark.parametrize("family", FAMILIES)
def test_run_learns_held_out_rows(family, toy_recipe, tagged_data, tmp_path, capsys):
    epochs = 20 if family == "bert" else 1
    recipe = toy_recipe(
        family, task="token-classification", dataset={"path": str(tagged_data)},
        training={"num_train_epochs": epochs, "learning_rate": 5e-3},
    )  # fmt: skip
    assert main(["run", str(recipe)]) == 0, capsys.readouterr().err
    directory, run = run_of(tmp_path, capsys)
    assert run["main_metric"]["name"] == "f1"
    assert run["dataset"]["problem_type"] == "entities"
    if family == "bert":
        scores = run["metrics"]["test"]
        assert scores["f1"]["value"] >= 0.95
        assert scores["f1"]["low"] <= scores["f1"]["value"] <= scores["f1"]["high"]
        assert run["baselines"]["majority"]["f1"]["value"] == 0.0
    capsys.readouterr()
    assert main(["predict", str(directory), str(tagged_data / "test.jsonl")]) == 0
    said = [json.loads(row) for row in capsys.readouterr().out.splitlines()]
    reported = [json.loads(row) for row in (directory / "predictions-test.jsonl").read_text().splitlines()]
    assert [row["prediction"] for row in said] == [row["prediction"] for row in reported]
    assert [len(row["prediction"]) for row in said] == [len(row["tokens"]) for row in said]


def test_predict_of_texts_equals_the_pipeline(toy_recipe, tagged_data, tmp_path, capsys, monkeypatch):
    import io
    import sys

    import transformers

    recipe = toy_recipe(
        task="token-classification", dataset={"path": str(tagged_data)},
        training={"num_train_epochs": 8, "learning_rate": 2e-3},
    )  # fmt: skip
    assert main(["run", str(recipe)]) == 0
    directory, _ = run_of(tmp_path, capsys)
    texts = ["What a lovely, awful day it was!", "nasty weather again", "Her answer: delightfully rotten", "again"]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("\n".join(texts).encode())))
    capsys.readouterr()
    assert main(["predict", str(directory), "-"]) == 0, capsys.readouterr().err
    said = [json.loads(row) for row in capsys.readouterr().out.splitlines()]
    assert [row["text"] for row in said] == texts
    pipeline = transformers.pipeline("token-classification", str(directory / "model"), aggregation_strategy="first")
    assert sum(len(row["prediction"]) for row in said) >= 4
    for text, row in zip(texts, said, strict=True):
        expected = pipeline(text)
        for entity, other in zip(row["prediction"], expected, strict=True):
            assert (entity["entity_group"], entity["start"], entity["end"]) == (
                other["entity_group"], other["start"], other["end"],
            )  # fmt: skip
            assert entity["score"] == pytest.approx(float(other["score"]), abs=1e-4)
            assert entity["word"] == text[entity["start"] : entity["end"]]


def test_run_streams_its_rows_to_the_same_weights(toy_recipe, tagged_data, tmp_path, capsys):
    from safetensors.torch import load_file

    for streaming in (False, True):
        dataset = {"path": str(tagged_data), "streaming": streaming}
        recipe = toy_recipe(task="token-classification", dataset=dataset, training={"max_steps": 5})
        assert main(["run", str(recipe), f"name={'streamed' if streaming else 'whole'}"]) == 0, capsys.readouterr().err
    weights = [load_file(path) for path in sorted((tmp_path / "runs").glob("*/model/model.safetensors"))]
    assert len(weights) == 2
    assert all(torch.allclose(weights[0][name], weights[1][name], atol=1e-4) for name in weights[0])


def test_run_in_windows_answers_every_token(toy_recipe, tagged_data, tmp_path, capsys):
    recipe = toy_recipe(
        task="token-classification", dataset={"path": str(tagged_data)}, training={"max_steps": 3},
        preprocessing={"max_length": 7, "doc_stride": 2, "return_overflowing_tokens": True},
    )  # fmt: skip
    assert main(["run", str(recipe)]) == 0, capsys.readouterr().err
    directory, run = run_of(tmp_path, capsys)
    lines = [json.loads(row) for row in (directory / "predictions-test.jsonl").read_text().splitlines()]
    assert [len(row["prediction"]) for row in lines] == [len(row["reference"]) for row in lines]
    assert all(None not in row["prediction"] for row in lines)
    assert run["metrics"]["test"]["f1"]["n"] == len(lines) == 16
    assert run["dataset"]["truncated_fraction"] == 0.0 < 0.5 < run["dataset"]["divided_fraction"]


def test_run_on_texts_with_spans(toy_recipe, tagged_data, tmp_path, capsys):
    folder = tmp_path / "spans"
    folder.mkdir()
    for split in ("train", "validation", "test"):
        rows = [json.loads(row) for row in (tagged_data / f"{split}.jsonl").read_text().splitlines()]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(with_spans(row)) + "\n" for row in rows))
    recipe = toy_recipe(
        task="token-classification", dataset={"path": str(folder)},
        training={"num_train_epochs": 20, "learning_rate": 5e-3},
    )  # fmt: skip
    assert main(["run", str(recipe)]) == 0, capsys.readouterr().err
    directory, run = run_of(tmp_path, capsys)
    assert run["metrics"]["test"]["f1"]["value"] >= 0.95
    first = json.loads((directory / "predictions-test.jsonl").read_text().splitlines()[0])
    spans = [{key: entity[key] for key in ("start", "end")} for entity in first["prediction"]]
    assert spans == [{key: span[key] for key in ("start", "end")} for span in first["reference"]]


def with_spans(row):
    starts = bounds(row["tokens"])
    spans = [
        {"start": starts[first], "end": starts[last - 1] + len(row["tokens"][last - 1]), "label": kind}
        for first, last, kind in entities_of(ids_of(row["tags"]), ENTITIES)
    ]
    return {"text": " ".join(row["tokens"]), "spans": spans}


def test_a_family_without_the_head_is_refused_before_weights_are_loaded(toy_recipe, tagged_data, capsys):
    for family in ("openai-gpt", "opt", "bart"):
        recipe = toy_recipe(family, task="token-classification", dataset={"path": str(tagged_data)})
        assert main(["run", str(recipe)]) == 1
        said = capsys.readouterr().err
        assert "which has no head for token-classification in transformers" in said
        assert "for example bert, distilbert" in said


def test_the_task_is_in_the_registry():
    assert all_tasks()["token-classification"] is TASK


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("evaluation.metrics=[seqeval]", "seqeval is computed by itself; token-classification has f1, precision"),
        ("dataset.columns={token: a, tags: b}", "dataset.columns.token: unknown role; did you mean tokens?"),
        ("dataset.columns={tokens: a, tags: [b, c]}", "takes the name of one column, found a list of 2"),
        ("dataset.problem_type=regression", "regression is for text-classification; leave it out for token-"),
        ("dataset.columns={tokens: words}", "has no column 'words'"),
        ("dataset.columns={text: tokens}", "no column is named as spans usually are (spans, entities)"),
        ("training.class_weights=[1.0,2.0]", "2 weights for 5 labels (O, B-gloom, I-gloom, B-joy, I-joy)"),
        ("preprocessing.truncation=false preprocessing.max_length=5", "tokens, where 5 is the limit"),
        ("dataset.streaming=true preprocessing.return_overflowing_tokens=true", "how many windows a stream has"),
    ],
)
def test_bad_recipes_are_one_clear_error(setting, message, toy_recipe, tagged_data, capsys):
    recipe = toy_recipe(task="token-classification", dataset={"path": str(tagged_data)})
    words = setting.split(" ") if "{" not in setting else [setting]
    assert main(["run", str(recipe), *words]) == 1
    assert message in " ".join(capsys.readouterr().err.split())
