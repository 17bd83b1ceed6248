"""finetune.evaluation.modules: our metrics are evaluate's, keep no rows, and equal their reference implementations."""

import json
import random
from pathlib import Path

import evaluate
import numpy
import pytest

from finetune.evaluation.metrics import FORMULAS, load_metric
from finetune.evaluation.modules import SumMetric
from finetune.tasks import Context, LabelScheme, all_tasks
from tests.tasks.test_question_answering import official

DATA = Path(__file__).parents[2].parent / "shared" / "data"


def rows_of(name, count, split="test"):
    path = DATA / name / f"{split}.jsonl"
    if not path.exists():
        pytest.skip(f"{name} is not beside the checkout")
    lines = path.read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines[:count]]


def metric_of(task, scheme, names=(), **options):
    return SumMetric(all_tasks()[task], Context(None, scheme, "encoder-only", 64, **options), names)


@pytest.mark.parametrize("task", all_tasks())
def test_every_metric_of_every_task_is_an_evaluate_module_made_without_a_network(task):
    own = all_tasks()[task]
    for problem_type, names in own.metrics.items():
        scheme = LabelScheme(problem_type, ("O", "B-a", "I-a"))
        if own.measure is None:
            assert all(isinstance(load_metric(name), evaluate.Metric) for name in names)
            assert set(names) <= FORMULAS.keys()
        else:
            metric = metric_of(task, scheme, own.optional_metrics)
            assert isinstance(metric, evaluate.Metric)
            assert {*names, *own.optional_metrics} <= metric.formulas.keys()


def test_a_module_takes_rows_one_by_one_or_at_once_and_forgets_them(tmp_path, monkeypatch):
    monkeypatch.setattr(evaluate.config, "HF_METRICS_CACHE", str(tmp_path / "cache"))
    metric = metric_of("token-classification", LabelScheme("tags", ("NOUN", "VERB")))
    said, true = [{"prediction": [0, 1]}, {"prediction": [1]}], [{"tags": [0, 0]}, {"tags": [1]}]
    for prediction, reference in zip(said, true, strict=True):
        metric.add(prediction=prediction, reference=reference)
    assert metric.measured.tolist() == [[2, 1], [1, 1]]  # of a row only what adds up
    assert metric.compute() == {"accuracy": pytest.approx(2 / 3)}
    assert metric.compute(predictions=said[:1], references=true[:1]) == {"accuracy": 0.5}
    labels = load_metric("accuracy")
    labels.add(prediction=1, reference=1)
    labels.add_batch(predictions=numpy.array([0, 0, 1]), references=[0, 1, 1])
    assert labels.compute() == {"accuracy": 0.75}
    assert labels.compute(predictions=[1], references=[0]) == {"accuracy": 0.0}
    assert not (tmp_path / "cache").exists()


def test_entities_of_real_texts_score_as_in_seqeval():
    seqeval = pytest.importorskip("seqeval.metrics", reason="seqeval is not installed")
    rows = rows_of("wnut17", 400)
    names = sorted({tag for row in rows for tag in row["tags"]})
    ids, draw = {name: place for place, name in enumerate(names)}, random.Random(0)
    true = [[ids[tag] for tag in row["tags"]] for row in rows]
    # Now and then another tag, also an I- after nothing: what models say.
    said = [[draw.randrange(len(names)) if draw.random() < 0.1 else tag for tag in tags] for tags in true]
    values = metric_of("token-classification", LabelScheme("entities", tuple(names))).compute(
        predictions=[{"prediction": tags} for tags in said], references=[{"tags": tags} for tags in true]
    )
    words = [[[names[tag] for tag in tags] for tags in side] for side in (true, said)]
    report = seqeval.classification_report(*words, output_dict=True, zero_division=0)
    expected = {"f1": report["micro avg"]["f1-score"], "accuracy": seqeval.accuracy_score(*words)}
    expected |= {name: report["micro avg"][name] for name in ("precision", "recall")}
    for kind in {name[2:] for name in names if name != "O"}:
        expected |= {f"{name}_{kind}": report[kind][name] for name in ("precision", "recall")}
        expected[f"f1_{kind}"] = report[kind]["f1-score"]
    assert values == {name: pytest.approx(value, abs=1e-12) for name, value in expected.items()}
    assert 0.1 < values["f1"] < 0.9


def test_texts_score_as_in_sacrebleu_and_rouge_score():
    from rouge_score.rouge_scorer import RougeScorer
    from sacrebleu.metrics import BLEU, CHRF

    rows = rows_of("e2e_nlg", 60)
    true = [row["references"] for row in rows]
    said = [true[place - 1][0] if place % 3 else true[place][-1][:-12] for place in range(len(rows))]
    answers = [{"prediction": text, "nll": 2.0, "tokens": 1} for text in said]
    metric = metric_of("text2text-generation", LabelScheme("text"))
    values = metric.compute(predictions=answers, references=[{"target": texts} for texts in true])
    kinds = ["rouge1", "rouge2", "rougeL", "rougeLsum"]
    scored = [RougeScorer(kinds).score_multi(texts, text) for texts, text in zip(true, said, strict=True)]
    expected = {kind: numpy.mean([score[kind].fmeasure for score in scored]) for kind in kinds}
    streams = [
        [row[place] if place < len(row) else None for row in true] for place in range(max(len(row) for row in true))
    ]
    expected |= {"bleu": BLEU().corpus_score(said, streams).score, "chrf": CHRF().corpus_score(said, streams).score}
    expected |= {
        "exact_match": numpy.mean([text in texts for text, texts in zip(said, true, strict=True)]),
        "perplexity": numpy.exp(2.0),
    }
    assert values == {name: pytest.approx(value, rel=1e-12) for name, value in expected.items()}
    assert 5 < values["bleu"] < 95
    # What a decoder-only model writes is scored by the same formulas.
    written = metric_of("text-generation", LabelScheme("causal_lm"), ("bleu", "rougeL"), writes=True)
    sums = [{"prediction": text, "tokens": 2.0, "correct": 1.0, "loss": 1.0} for text in said]
    single = written.compute(predictions=sums, references=[{"completion": texts[0]} for texts in true])
    assert set(single) == {"perplexity", "accuracy", "bleu", "rougeL"}
    assert single["bleu"] == pytest.approx(BLEU().corpus_score(said, [[texts[0] for texts in true]]).score, rel=1e-12)


@pytest.mark.parametrize("name", ["xquad_en", "faquad_pt"])
def test_answers_score_as_in_the_official_script(name):
    rows, draw = rows_of(name, 300), random.Random(0)

    def answer(row):
        text = draw.choice(row["answers"]["text"])
        words = row["context"].split()
        return draw.choice([text, f"The {text.upper()}!", f"{text} {draw.choice(words)}", draw.choice(words), ""])

    said = [answer(row) for row in rows]
    values = metric_of("question-answering", LabelScheme("squad")).compute(
        predictions=[{"prediction": text} for text in said], references=rows
    )
    pairs = [official(text, row["answers"]["text"]) for text, row in zip(said, rows, strict=True)]
    f1, exact = numpy.mean(pairs, axis=0)
    assert values == {"f1": pytest.approx(f1), "exact_match": pytest.approx(exact)}
    assert 0.2 < exact < f1 < 0.9


def test_chosen_answers_and_tags_score_as_counted_by_hand():
    rows, draw = rows_of("codah", 200), random.Random(0)
    true = [row["label"] for row in rows]
    said = [draw.choice([label, draw.randrange(4)]) for label in true]
    equal = numpy.mean(numpy.array(true) == numpy.array(said))
    assert load_metric("accuracy").compute(predictions=said, references=true) == {"accuracy": pytest.approx(equal)}
    tagged = rows_of("ud_ewt_pos", 200)
    names = tuple(sorted({tag for row in tagged for tag in row["tags"]}))
    tags = [[names.index(tag) for tag in row["tags"]] for row in tagged]
    guess = [[draw.choice([tag, 0]) for tag in row] for row in tags]
    values = metric_of("token-classification", LabelScheme("tags", names)).compute(
        predictions=[{"prediction": row} for row in guess], references=[{"tags": row} for row in tags]
    )
    assert values["accuracy"] == pytest.approx(numpy.mean(numpy.concatenate(tags) == numpy.concatenate(guess)))
