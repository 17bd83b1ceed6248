import io
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from finetune.cli.app import main
from finetune.data.rows import open_rows
from finetune.errors import FinetuneError
from finetune.evaluation.predict import Predictor
from finetune.evaluation.predict_file import (
    answer_batch,
    load_model,
    open_finished,
    parse_columns,
    read_inputs,
)
from finetune.runs.record import read_run
from finetune.tasks import LabelScheme
from tests import tiny

FAMILIES = {"single": "gpt2", "multi": "distilbert", "pairs": "bert"}


@pytest.fixture(scope="module")
def finished_run(checkpoints, toy_data, tmp_path_factory):
    """Return a function that trains a kind of model once a module and gives its run: "single", "multi", "pairs"."""
    made = {}

    def of(kind):
        if kind not in made:
            folder = tmp_path_factory.mktemp(kind)
            dataset = {"path": str(toy_data)} if kind == "single" else write_rows(kind, folder)
            recipe = {
                "task": "text-classification",
                "model": {"name_or_path": str(checkpoints(FAMILIES[kind]))},
                "dataset": dataset,
                "training": {
                    "num_train_epochs": 6, "per_device_train_batch_size": 8, "learning_rate": 5e-3,
                    "mixed_precision": "no", "save_strategy": "no", "load_best_model_at_end": False,
                },
                "evaluation": {"baselines": []},
                "emissions": {"country_iso_code": "BRA"},
                "output_dir": str(folder / "runs"),
            }  # fmt: skip
            (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("FINETUNE_CACHE", str(folder / "cache"))
                assert main(["run", str(folder / "recipe.yaml")]) == 0
            [made[kind]] = (folder / "runs").iterdir()
        return read_run(made[kind])

    return of


def write_rows(kind, folder):
    rows = tiny.toy_rows()
    if kind == "multi":
        rows = [{"body": row["text"], "tags": tags_of(row)} for row in rows]
        columns = {"text": "body", "label": "tags"}
    else:
        rows = [
            {"first": row["text"], "second": other["text"], "match": float(row["label"] == other["label"])}
            for row, other in zip(rows, rows[1:] + rows[:1], strict=True)
        ]
        columns = {"text": "first", "text_pair": "second", "label": "match"}
    for split, part in {"train": rows[:64], "validation": rows[64:80], "test": rows[80:]}.items():
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))
    problem = {"multi": "multi_label_classification", "pairs": "regression"}[kind]
    return {"path": str(folder), "columns": columns, "problem_type": problem}


def tags_of(row):
    return [row["label"]] + (["weather"] if "weather" in row["text"] or "day" in row["text"] else [])


def file_of_test_split(run):
    """Return the file of the run's test split."""
    path = Path(run.recipe["dataset"]["path"])
    return (path if path.is_absolute() else run.directory / path) / "test.jsonl"


def predictor_of(finished, batch_size=64):
    from contextlib import nullcontext

    import torch

    model, context = load_model(finished)
    return Predictor(model, finished.task, context, batch_size, torch.device("cpu"), nullcontext)


def answers_of(run, source, given=None, batch_size=64):
    finished = open_finished(run)
    predictor = predictor_of(finished, batch_size)
    batches = read_inputs(open_rows(source), finished, given or {})
    return [answer for batch in batches for answer in answer_batch(predictor, batch)]


@pytest.mark.parametrize("kind", ["single", "multi", "pairs"])
@pytest.mark.parametrize("batch_size", [64, 3])
def test_predict_file_repeats_the_answers_of_the_run(finished_run, kind, batch_size):
    run = finished_run(kind)
    recorded = [json.loads(line) for line in (run.directory / "predictions-test.jsonl").read_text().splitlines()]
    answers = answers_of(run, file_of_test_split(run), batch_size=batch_size)
    assert [answer.row for answer in answers] == [line["row"] for line in recorded]
    for answer, line in zip(answers, recorded, strict=True):
        if kind == "pairs":
            assert answer.said == {"prediction": pytest.approx(line["prediction"], abs=1e-4)}
            continue
        assert answer.said["prediction"] == line["prediction"]
        assert answer.said["probabilities"] == pytest.approx(line["probabilities"], abs=1e-4)
        assert answer.said.get("probability") == pytest.approx(line.get("probability"), abs=1e-4)
    assert len({str(answer.said["prediction"]) for answer in answers}) > 1


def test_predict_file_reads_labels_from_the_model(finished_run):
    assert load_model(open_finished(finished_run("single")))[1].labels == LabelScheme(
        "single_label_classification", ("bad", "good")
    )
    assert load_model(open_finished(finished_run("pairs")))[1].labels == LabelScheme("regression")


def test_predict_file_knows_the_columns_of_the_run_and_those_that_are_given(finished_run, tmp_path):
    run = finished_run("multi")
    rows = tmp_path / "rows.csv"
    rows.write_text("id,body,other\n1,what a lovely day,nasty weather\n")
    assert [dict(answer.texts) for answer in answers_of(run, rows)] == [{"text": "what a lovely day"}]
    assert [dict(answer.texts) for answer in answers_of(run, rows, {"text": "other"})] == [{"text": "nasty weather"}]
    stream = io.StringIO('{"body": "what a lovely day", "other": 1}\n')
    assert [dict(answer.texts) for answer in answers_of(run, stream)] == [{"text": "what a lovely day"}]


def test_predict_file_leaves_out_a_second_text_that_the_model_never_saw(finished_run):
    stream = io.StringIO('{"sentence1": "a lovely day", "sentence2": "a nasty day"}\n')
    [answer] = answers_of(finished_run("single"), stream)
    assert dict(answer.texts) == {"text": "a lovely day"}


def test_predict_file_wants_both_texts_of_a_pair(finished_run, tmp_path):
    rows = tmp_path / "rows.csv"
    rows.write_text("first,opinion,source\na lovely day,so it is,a letter\n")
    with pytest.raises(FinetuneError) as caught:
        answers_of(finished_run("pairs"), rows)
    assert "text_pair" in caught.value.message
    assert caught.value.hint == "Say which column it is: --column text=<column> --column text_pair=<column>"
    with pytest.raises(FinetuneError, match="text_pair"):
        answers_of(finished_run("pairs"), io.StringIO("a text alone\n"))


def test_predict_file_answers_none_where_there_is_no_text(finished_run):
    answers = answers_of(finished_run("single"), io.StringIO("what a lovely day\n\n  \nnasty weather again\n"))
    assert [(answer.row, answer.said is None) for answer in answers] == [(1, False), (2, True), (3, True), (4, False)]


def test_predict_file_of_empty_lines_alone_is_answered_too(finished_run):
    assert [answer.said for answer in answers_of(finished_run("single"), io.StringIO("\n\n"))] == [None, None]


def test_predict_file_answers_none_where_the_tokenizer_makes_nothing_of_the_text(finished_run):
    finished = open_finished(finished_run("single"))
    predictor = predictor_of(finished)

    def encode(rows, context):
        return {"input_ids": [[], [5]], "attention_mask": [[], [1]]}

    predictor = replace(predictor, task=replace(finished.task, encode=encode))
    [batch] = read_inputs(open_rows(io.StringIO("strange\nplain\n")), finished, {})
    assert [answer.said is None for answer in answer_batch(predictor, batch)] == [True, False]


def test_predict_file_without_lines_has_no_answers(finished_run):
    assert answers_of(finished_run("single"), io.StringIO("")) == []


def test_predict_file_counts_rows_through_the_batches_of_a_stream(finished_run):
    texts = [f"{word} weather again" for word in tiny.GOOD + tiny.BAD] * 80
    answers = answers_of(finished_run("single"), io.StringIO("\n".join(texts) + "\n"))
    assert [answer.row for answer in answers] == list(range(1, len(texts) + 1))
    assert [answer.texts["text"] for answer in answers] == texts


def test_predict_file_cuts_long_texts_as_the_run_did(finished_run):
    run = finished_run("single")
    long = "what a lovely day " * 100
    [answer] = answers_of(run, io.StringIO(long))
    assert answer.said is not None
    uncut = replace(run, recipe={**run.recipe, "preprocessing": {"truncation": False}})
    with pytest.raises(FinetuneError, match=r"row 1: \d+ tokens, where 64 is the limit"):
        answers_of(uncut, io.StringIO(long))


def test_predict_file_refuses_outputs_that_are_no_numbers(finished_run):
    import torch

    finished = open_finished(finished_run("single"))
    predictor = predictor_of(finished)
    with torch.no_grad():
        predictor.model.score.weight.fill_(float("nan"))
    [batch] = read_inputs(open_rows(io.StringIO("a day\n")), finished, {})
    with pytest.raises(FinetuneError, match="not finite"):
        answer_batch(predictor, batch)


def test_predict_file_puts_a_lack_of_memory_into_words(finished_run, monkeypatch):
    import torch

    finished = open_finished(finished_run("single"))

    def full(self, rows):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Predictor, "outputs", full)
    with pytest.raises(FinetuneError, match="out of memory with batches of 8 rows") as caught:
        answers_of(finished.run, io.StringIO("a day\n"), batch_size=8)
    assert caught.value.hint == "--batch-size 4"


def test_predict_file_says_what_is_no_utf8():
    stream = io.TextIOWrapper(io.BytesIO("café\n".encode("latin-1")), encoding="utf-8")
    with pytest.raises(FinetuneError, match=r"stdin: not UTF-8 text \(byte 0xe9\)"):
        open_rows(stream)


def test_predict_file_says_which_line_is_no_json(finished_run):
    with pytest.raises(FinetuneError, match="stdin:1: not JSON"):
        open_rows(io.StringIO('{"text": \n'))
    with pytest.raises(FinetuneError, match="stdin:2: not JSON"):
        answers_of(finished_run("single"), io.StringIO('{"text": "a day"}\n{"text"\n'))


@pytest.mark.parametrize(
    ("word", "message", "hint"),
    [
        ("text", "expected role=name", "For example --column text=body"),
        ("txt=body", "the model has no input 'txt'; it has text", "Did you mean text=body?"),
        ("label=body", "the model has no input 'label'; it has text", "For example --column text=body"),
    ],
)
def test_predict_file_explains_a_wrong_column_option(finished_run, word, message, hint):
    with pytest.raises(FinetuneError) as caught:
        parse_columns([word], open_finished(finished_run("single")))
    assert message in caught.value.message
    assert caught.value.hint == hint


def test_predict_file_without_a_model_says_what_to_do(finished_run, tmp_path):
    with pytest.raises(FinetuneError, match="is interrupted and has no model yet"):
        open_finished(replace(finished_run("single"), status="interrupted", directory=tmp_path))


def test_predict_file_refuses_a_record_that_lacks_what_it_needs(finished_run):
    run = finished_run("single")
    with pytest.raises(FinetuneError, match="does not say how its inputs are read"):
        open_finished(replace(run, dataset={}))


def test_predict_file_explains_weights_that_cannot_be_read(finished_run, tmp_path):
    run = finished_run("single")
    shutil.copytree(run.directory / "model", tmp_path / "model")
    (tmp_path / "model" / "model.safetensors").unlink()
    with pytest.raises(FinetuneError, match="the model cannot be loaded"):
        load_model(open_finished(replace(run, directory=tmp_path)))
