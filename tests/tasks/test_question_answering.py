"""finetune.tasks.question_answering: windows, loss, spans, SQuAD's scores, and runs of it from end to end."""

import collections
import json
import re
import string
from dataclasses import replace
from types import SimpleNamespace

import numpy
import pytest
import torch
from transformers import AutoModelForQuestionAnswering, AutoTokenizer

from finetune.cli.app import main
from finetune.data.encoding import encode_rows
from finetune.tasks import Context, LabelScheme, all_tasks
from finetune.tasks.question_answering import (
    SLOT,
    SQUAD,
    SQUAD_V2,
    TASK,
    answer,
    compare,
    formulas,
    from_text,
    measure,
    reduce,
    to_text,
)
from tests import tiny

FAMILIES = ("bert", "distilbert", "gpt2", "gpt_neo", "opt", "bart", "t5")
QUESTION = "what was lovely"
CONTEXT = "the meal seemed horrid to everyone, her answer sounded  bright, we spent a nasty evening there"


def context_of(folder, problem_type=SQUAD, max_length=64, doc_stride=128, **settings):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    return Context(
        tokenizer, LabelScheme(problem_type), "encoder-only", max_length, doc_stride=doc_stride, settings=settings
    )


def row_of(text="bright", start=None):
    return {"text": [text], "answer_start": [CONTEXT.index(text) if start is None else start]}


def rows_of(*answers, question=QUESTION):
    return {"question": [question] * len(answers), "context": [CONTEXT] * len(answers), "answers": list(answers)}


def marked(features, place):
    """Return the part of the context that a feature's labels mark; None: its slot."""
    labels = features["labels"][place]
    [first] = [at for at, label in enumerate(labels) if label & 1]
    [last] = [at for at, label in enumerate(labels) if label & 2]
    start, end = features["starts"][place][first], features["ends"][place][last]
    if SLOT in (start, end):
        assert first == last
        return None
    return CONTEXT[start:end]


@pytest.mark.parametrize("family", FAMILIES)
def test_encode_marks_the_answer_or_the_slot(family, checkpoints):
    context = context_of(checkpoints(family), max_length=None)
    nothing = {"text": [], "answer_start": []}
    features = TASK.encode(rows_of(row_of(), row_of("a nasty evening there"), nothing), context)
    assert [marked(features, place) for place in range(3)] == ["bright", "a nasty evening there", None]
    assert all(row.count(SLOT) == 1 for row in features["starts"])
    assert {len({len(features[name][0]) for name in features.keys() - {"source", "cut"}})} == {1}


@pytest.mark.parametrize("family", ["bert", "gpt2", "bart"])
def test_windows_cover_the_context_and_hold_the_answer_once_whole(family, checkpoints):
    context = context_of(checkpoints(family), max_length=16, doc_stride=4)
    features = encode_rows(rows_of(row_of(), row_of("horrid")), TASK, context)
    assert max(map(len, features["input_ids"])) <= 16
    assert features["source"] == sorted(features["source"])
    for source, text in ((0, "bright"), (1, "horrid")):
        places = [place for place, own in enumerate(features["source"]) if own == source]
        assert len(places) > 1
        covered = set()
        for place in places:
            for start, end in zip(features["starts"][place], features["ends"][place], strict=True):
                covered |= set(range(start, end)) if start >= 0 else set()
        assert {at for at, letter in enumerate(CONTEXT) if letter != " "} <= covered
        assert {marked(features, place) for place in places} == {text, None}


def test_a_long_question_is_cut_to_half_a_window(checkpoints):
    context = context_of(checkpoints("bert"), max_length=20)
    features = encode_rows(rows_of(row_of(), question="lovely " * 50), TASK, context)
    lovely = context.tokenizer.convert_tokens_to_ids("lovely")
    assert {row.count(lovely) for row in features["input_ids"]} == {10}
    assert max(map(len, features["input_ids"])) <= 20
    assert {marked(features, place) for place in range(len(features["input_ids"]))} == {"bright", None}
    assert set(features["cut"]) == {1}  # the rest of the question is lost, of the context nothing
    assert set(encode_rows(rows_of(row_of()), TASK, context)["cut"]) == {0}


def test_windows_do_not_depend_on_the_other_rows(checkpoints):
    context = context_of(checkpoints("bert"), max_length=24, doc_stride=9)
    rows = rows_of(row_of(), row_of())
    rows["question"] = ["lovely " * 8, QUESTION]
    both = encode_rows(rows, TASK, context)
    for place in range(2):
        alone = encode_rows({role: values[place : place + 1] for role, values in rows.items()}, TASK, context)
        assert alone["input_ids"] == [
            ids for ids, own in zip(both["input_ids"], both["source"], strict=True) if own == place
        ]


def outputs_of(rows, width):
    torch.manual_seed(0)
    return SimpleNamespace(start_logits=torch.randn(rows, width), end_logits=torch.randn(rows, width))


def batch_of(rows=6, width=9):
    starts = torch.arange(width).repeat(rows, 1) * 5 - 10
    starts[:, 0], starts[:, 1], starts[:, -1] = SLOT, -1, -1
    labels = torch.zeros_like(starts)
    labels[:, 3], labels[:, 4] = 1, 2
    labels[0] = 0
    labels[0, 0] = 3
    return {"starts": starts, "ends": torch.where(starts < 0, starts, starts + 5), "labels": labels}


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_loss_is_the_mean_over_both_ends_and_adds_up(smoothing):
    outputs, batch = outputs_of(6, 9), batch_of()
    context = Context(None, LabelScheme(SQUAD), "encoder-only", 64, label_smoothing=smoothing)
    choices = [0, *range(2, 8)]
    first, last = torch.tensor([0] + [2] * 5), torch.tensor([0] + [3] * 5)
    entropy = torch.nn.functional.cross_entropy
    expected = 0.5 * (
        entropy(outputs.start_logits[:, choices], first, label_smoothing=smoothing)
        + entropy(outputs.end_logits[:, choices], last, label_smoothing=smoothing)
    )

    def parts(rows):
        part = {name: values[rows] for name, values in batch.items()}
        cut = SimpleNamespace(start_logits=outputs.start_logits[rows], end_logits=outputs.end_logits[rows])
        return float(TASK.loss(cut, part, context)), float(TASK.loss_weight(part, context))

    total, weight = numpy.sum([parts(slice(0, 1)), parts(slice(1, 4)), parts(slice(4, 6))], axis=0)
    assert weight == 6
    assert total / weight == pytest.approx(float(expected), rel=1e-6)


@pytest.mark.parametrize("longest", [None, 1, 2, 50])
def test_reduce_finds_the_best_span_of_all(longest):
    outputs, batch = outputs_of(6, 9), batch_of()
    context = Context(None, LabelScheme(SQUAD), "encoder-only", 64, settings={"max_answer_length": longest})
    kept = reduce(outputs, batch, context)
    for row in range(6):
        begin, end = outputs.start_logits[row].tolist(), outputs.end_logits[row].tolist()
        spans = [(i, j) for i in range(2, 8) for j in range(i, 8) if longest is None or j - i < longest]
        first, last = max(spans, key=lambda span: begin[span[0]] + end[span[1]])
        assert (kept["start"][row], kept["end"][row]) == (batch["starts"][row, first], batch["ends"][row, last])
        assert kept["logit"][row] == pytest.approx(begin[first] + end[last], abs=1e-5)
        chances = [torch.tensor([side[0], *side[2:8]]).softmax(0) for side in (begin, end)]
        assert kept["score"][row] == pytest.approx(float(chances[0][first - 1] * chances[1][last - 1]), rel=1e-4)
        assert kept["slot_score"][row] == pytest.approx(float(chances[0][0] * chances[1][0]), rel=1e-4)


def window(logit, slot_logit, start=0):
    return {"start": start, "end": start + 4, "logit": logit, "score": 0.5, "slot_logit": slot_logit, "slot_score": 0.1}


def test_answer_takes_the_best_window_and_no_answer_above_the_threshold():
    windows = [window(1.0, 3.0), window(2.0, 2.5, start=5)]
    row = {"context": "good evil deed"}

    def said(problem_type, threshold):
        settings = {"null_score_diff_threshold": threshold}
        return answer(windows, row, Context(None, LabelScheme(problem_type), "encoder-only", 64, settings=settings))

    assert said(SQUAD, 0.0) == {"prediction": "evil", "start": 5, "end": 9, "score": 0.5}
    empty = {"prediction": "", "start": None, "end": None, "score": 0.1, "null_score_diff": 0.5}
    assert said(SQUAD_V2, 0.0) == empty
    assert said(SQUAD_V2, 0.5)["prediction"] == "evil"


def official(prediction, references):
    """Count as the published evaluate-v2.0.py does, written from its definition."""

    def normal(text):
        text = "".join(letter for letter in text.lower() if letter not in set(string.punctuation))
        return " ".join(re.sub(r"\b(a|an|the)\b", " ", text, flags=re.UNICODE).split())

    def f1(gold, said):
        gold, said = normal(gold).split(), normal(said).split()
        same = sum((collections.Counter(gold) & collections.Counter(said)).values())
        if len(gold) == 0 or len(said) == 0:
            return int(gold == said)
        if same == 0:
            return 0
        precision, recall = same / len(said), same / len(gold)
        return 2 * precision * recall / (precision + recall)

    references = [text for text in references if normal(text)] or [""]
    return max(f1(text, prediction) for text in references), max(
        int(normal(text) == normal(prediction)) for text in references
    )


def test_scores_equal_the_official_definition():
    draw = numpy.random.default_rng(0)
    pieces = [
        "The",
        "a",
        "an",
        "Anna",
        "cat's",
        "cat",
        "1,000",
        "—",
        "sat",
        "SAT.",
        "the\u00a0cat",
        "é",
        "naïve",
        "!",
        "",
    ]
    for _ in range(500):
        said = " ".join(draw.choice(pieces, draw.integers(0, 5)))
        references = [" ".join(draw.choice(pieces, draw.integers(1, 5))) for _ in range(draw.integers(0, 4))]
        assert compare(said, references) == pytest.approx(official(said, references))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (" in 1912", "in 1912"),
        ("\nin 1912\n\nQuestion: who", "in 1912"),
        (" Unanswerable.\n", ""),
        ("not unanswerable", "not unanswerable"),
        ("", ""),
    ],
)
def test_a_written_answer_is_its_first_line_and_may_say_that_there_is_none(text, said):
    assert from_text(text) == said
    assert from_text(to_text({"text": [said] if said else [], "answer_start": []})) == said


def test_metrics_part_answerable_from_unanswerable_questions():
    context = Context(None, LabelScheme(SQUAD_V2), "encoder-only", 64)
    cases = [("the cat", ["a cat"]), ("cat sat", ["cat"]), ("", []), ("dog", [])]
    sums = numpy.sum([measure({"prediction": p}, {"answers": {"text": r}}, context) for p, r in cases], axis=0)
    values = {name: float(formula(sums)) for name, formula in formulas(context.labels).items()}
    assert values == pytest.approx(
        {
            "f1": (1 + 2 / 3 + 1) / 4, "exact_match": 0.5, "f1_answerable": (1 + 2 / 3) / 2,
            "exact_match_answerable": 0.5, "accuracy_unanswerable": 0.5,
        }
    )  # fmt: skip
    assert list(formulas(context.labels)) == list(TASK.metrics[SQUAD_V2])
    assert list(formulas(LabelScheme(SQUAD))) == list(TASK.metrics[SQUAD])


def write_splits(folder, rows):
    folder.mkdir(exist_ok=True)
    for split, part in {"train": rows[:-32], "validation": rows[-32:-16], "test": rows[-16:]}.items():
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))
    return folder


@pytest.fixture(scope="session")
def questions(tmp_path_factory):
    return write_splits(tmp_path_factory.mktemp("questions"), tiny.toy_questions(count=64))


def run_of(tmp_path):
    [directory] = (tmp_path / "runs").iterdir()
    return directory, json.loads((directory / "run.json").read_text())


def lines_of(text):
    return [json.loads(line) for line in text.splitlines()]


def by_hand(folder, rows, max_length, stride, problem_type):
    """Answer with transformers alone, window by window and span by span; no token but those of the context counts."""
    model, tokenizer = AutoModelForQuestionAnswering.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    model.eval()
    for row in rows:
        parts = tokenizer(
            row["question"], row["context"], truncation="only_second", max_length=max_length, stride=stride,
            return_overflowing_tokens=True, return_offsets_mapping=True, return_tensors="pt", padding=True,
        )  # fmt: skip
        spans, empty = [], []
        for place in range(len(parts["input_ids"])):
            inputs = {name: parts[name][place : place + 1] for name in tokenizer.model_input_names if name in parts}
            with torch.no_grad():
                outputs = model(**inputs)
            begin, end = outputs.start_logits[0].tolist(), outputs.end_logits[0].tolist()
            inside = [at for at, sequence in enumerate(parts.sequence_ids(place)) if sequence == 1]
            offsets = parts["offset_mapping"][place].tolist()
            spans += [
                (begin[i] + end[j], row["context"][offsets[i][0] : offsets[j][1]])
                for i in inside for j in inside if i <= j
            ]  # fmt: skip
            slot = parts["input_ids"][place].tolist().index(tokenizer.cls_token_id)
            empty.append(begin[slot] + end[slot])
        score, text = max(spans)
        yield "" if problem_type == SQUAD_V2 and min(empty) > score else text


@pytest.mark.parametrize("problem_type", [SQUAD, SQUAD_V2])
def test_run_learns_held_out_questions_and_answers_as_transformers_does(problem_type, toy_recipe, tmp_path, capsys):
    folder = write_splits(tmp_path / "data", tiny.toy_questions(unanswerable=problem_type == SQUAD_V2))
    preprocessing = {"max_length": 20, "doc_stride": 8}
    recipe = toy_recipe(
        task="question-answering", dataset={"path": str(folder)}, preprocessing=preprocessing,
        training={"num_train_epochs": 12, "per_device_train_batch_size": 16},
    )  # fmt: skip
    assert main(["run", str(recipe)]) == 0, capsys.readouterr().err
    directory, run = run_of(tmp_path)
    assert run["dataset"]["problem_type"] == problem_type
    scores = run["metrics"]["test"]
    assert run["main_metric"]["name"] == "f1"
    assert {name: entry["value"] for name, entry in scores.items()} == dict.fromkeys(
        TASK.metrics[problem_type], pytest.approx(1.0, abs=0.13)
    )
    assert run["baselines"]["majority"]["f1"]["value"] < 0.7
    capsys.readouterr()
    assert main(["predict", str(directory), str(folder / "test.jsonl")]) == 0
    said = lines_of(capsys.readouterr().out)
    reported = lines_of((directory / "predictions-test.jsonl").read_text())
    assert [row["prediction"] for row in said] == [row["prediction"] for row in reported]
    assert [row["context"][row["start"] : row["end"]] for row in said if row["prediction"]] == [
        row["prediction"] for row in said if row["prediction"]
    ]
    rows = lines_of((folder / "test.jsonl").read_text())
    assert [row["reference"] for row in reported] == [row["answers"]["text"] for row in rows]
    assert [row["prediction"] for row in said] == [*by_hand(directory / "model", rows, 20, 8, problem_type)]


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_takes_a_step_and_is_read_by_transformers(family, questions, toy_recipe, tmp_path, capsys):
    recipe = toy_recipe(family, task="question-answering", dataset={"path": str(questions)}, training={"max_steps": 1})
    assert main(["run", str(recipe)]) == 0, capsys.readouterr().err
    directory, run = run_of(tmp_path)
    assert run["training"]["steps"] == 1
    assert numpy.isfinite(run["training"]["train_loss"])
    capsys.readouterr()
    assert main(["predict", str(directory), str(questions / "test.jsonl")]) == 0
    said = lines_of(capsys.readouterr().out)
    reported = lines_of((directory / "predictions-test.jsonl").read_text())
    assert [row["prediction"] for row in said] == [row["prediction"] for row in reported]
    again = AutoModelForQuestionAnswering.from_pretrained(directory / "model").eval()
    context = context_of(directory / "model")
    features = TASK.encode({role: [said[0][role]] for role in ("question", "context")}, context)
    with torch.no_grad():
        outputs = again(input_ids=torch.tensor(features["input_ids"]))
    batch = {name: torch.tensor(features[name]) for name in ("starts", "ends")}
    kept = reduce(outputs, batch, context)
    assert (kept["start"][0], kept["end"][0]) == (said[0]["start"], said[0]["end"])
    assert float(kept["score"][0]) == pytest.approx(said[0]["score"], rel=1e-3)


def test_a_family_without_the_head_is_refused_before_weights_are_loaded(toy_recipe, questions, capsys):
    recipe = toy_recipe("openai-gpt", task="question-answering", dataset={"path": str(questions)})
    assert main(["run", str(recipe)]) == 1
    said = capsys.readouterr().err
    assert "which has no head for question-answering in transformers" in said
    assert "for example bert, distilbert" in said


def test_a_head_for_other_labels_is_replaced(checkpoints, questions, toy_recipe, tmp_path, capsys):
    folder = tmp_path / "three"
    from transformers import AutoConfig, AutoModelForSequenceClassification

    config = AutoConfig.from_pretrained(checkpoints("bert"))
    config.num_labels = 3
    AutoModelForSequenceClassification.from_config(config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(checkpoints("bert")).save_pretrained(folder)
    recipe = toy_recipe(
        task="question-answering", model={"name_or_path": str(folder)}, dataset={"path": str(questions)},
        training={"max_steps": 1},
    )  # fmt: skip
    assert main(["run", str(recipe)]) == 0, capsys.readouterr().err


def test_predict_writes_csv(questions, toy_recipe, tmp_path, capsys):
    recipe = toy_recipe(task="question-answering", dataset={"path": str(questions)}, training={"max_steps": 1})
    assert main(["run", str(recipe)]) == 0
    directory, _ = run_of(tmp_path)
    table = tmp_path / "rows.csv"
    table.write_text("query,passage\nwhat was lovely,a superb day\nwhat,\n")
    capsys.readouterr()
    assert main(["predict", str(directory), str(table), "--format", "csv"]) == 0, capsys.readouterr().err
    header, first, second = capsys.readouterr().out.splitlines()
    assert header == "row,question,context,prediction,probability"
    assert first.startswith("1,what was lovely,a superb day,")
    assert 0 < float(first.rpartition(",")[2]) < 1
    assert second == "2,,,,"


def test_streaming_is_refused(questions, toy_recipe, capsys):
    recipe = toy_recipe(
        task="question-answering",
        dataset={"data_files": {s: str(questions / f"{s}.jsonl") for s in ("train", "validation")}, "streaming": True,
                 "path": None},
    )  # fmt: skip
    assert main(["validate", str(recipe)]) == 1
    assert "dataset.streaming: how many windows a stream has is not known" in capsys.readouterr().err


def test_the_task_is_in_the_registry():
    assert all_tasks()["question-answering"] is TASK
    assert replace(TASK).target == "answers"
