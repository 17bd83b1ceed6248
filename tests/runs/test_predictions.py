import json
import random
from statistics import fmean

import numpy
import pytest
from sklearn import metrics

from finetune.runs.predictions import read_row_scores
from finetune.runs.record import Score
from finetune.runs.scoring import Scored
from tests.runs.builders import make_run

DRAW = random.Random(4)
TRUTH = [DRAW.choice("aaabbc") for _ in range(300)]
GUESS = [truth if DRAW.random() < 0.7 else DRAW.choice("abc") for truth in TRUTH]
BY_CLASS = {"f1": metrics.f1_score, "precision": metrics.precision_score, "recall": metrics.recall_score}
CHOICES = {
    "accuracy": metrics.accuracy_score,
    "matthews_correlation": metrics.matthews_corrcoef,
    **{
        f"{kind}_{average}": lambda truth, guess, of=of, average=average: of(
            truth, guess, average=average, zero_division=0.0
        )
        for kind, of in BY_CLASS.items()
        for average in ("macro", "micro", "weighted")
    },
}  # fmt: skip


def read(folder, metric, score, references=TRUTH, predictions=GUESS, rows=None):
    lines = zip(rows or range(1, len(references) + 1), predictions, references, strict=True)
    (folder / "predictions-test.jsonl").write_text(
        "".join(json.dumps({"row": row, "prediction": guess, "reference": truth}) + "\n" for row, guess, truth in lines)
    )
    return read_row_scores(make_run(directory=folder), Scored(metric, "test", Score(score), True))


@pytest.mark.parametrize(("metric", "formula"), CHOICES.items())
def test_row_scores_have_the_mean_and_the_bootstrap_variance_of_the_metric(metric, formula, tmp_path):
    found = read(tmp_path, metric, formula(TRUTH, GUESS))
    assert fmean(found.values) == pytest.approx(formula(TRUTH, GUESS), abs=1e-9)
    truth, guess = (numpy.array([ord(letter) for letter in side]) for side in (TRUTH, GUESS))
    picks = numpy.random.default_rng(0).integers(0, 300, (400, 300))
    resampled = [formula(truth[pick], guess[pick]) for pick in picks]
    assert numpy.std(found.values) / 300**0.5 == pytest.approx(numpy.std(resampled), rel=0.15)


def test_row_scores_of_numbers_and_of_label_sets(tmp_path):
    truth, guess = [1.0, 2.0, 4.0], [1.5, 2.0, 2.0]
    assert read(tmp_path, "mae", 2.5 / 3, truth, guess).values == (0.5, 0.0, 2.0)
    assert read(tmp_path, "mse", 4.25 / 3, truth, guess).values == (0.25, 0.0, 4.0)
    assert read(tmp_path, "exact_match", 0.5, [["a"], []], [["a"], ["b"]]).values == (1.0, 0.0)
    assert read(tmp_path, "f1_macro", 0.5, [["a"], []], [["a"], ["b"]]) is None
    assert read(tmp_path, "pearson", 0.5, truth, guess) is None


def test_row_scores_do_not_depend_on_the_order_of_the_lines(tmp_path):
    straight = read(tmp_path, "accuracy", 0.5, ["a", "b"], ["a", "a"])
    assert read(tmp_path, "accuracy", 0.5, ["b", "a"], ["a", "a"], rows=[2, 1]) == straight


def test_row_scores_that_do_not_give_the_recorded_score_are_not_used(tmp_path):
    assert read(tmp_path, "accuracy", 0.123) is None


@pytest.mark.parametrize(
    "content", ["", "nonsense\n", "[1]\n", '{"row": 1}\n', '{"row": "x", "prediction": 1, "reference": 1}\n']
)
def test_row_scores_of_what_is_no_file_of_ours(content, tmp_path):
    scored = Scored("accuracy", "test", Score(1.0), True)
    assert read_row_scores(make_run(directory=tmp_path), scored) is None
    (tmp_path / "predictions-test.jsonl").write_text(content)
    assert read_row_scores(make_run(directory=tmp_path), scored) is None
    assert read_row_scores(make_run(), scored) is None
