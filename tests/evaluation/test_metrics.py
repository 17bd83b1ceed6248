"""finetune.evaluation.metrics: evaluate modules without a network, equal to hand-computed values."""

import pytest

from finetune.errors import FinetuneError
from finetune.evaluation.metrics import compute_metrics, load_metric
from finetune.tasks import greater_is_better


def test_compute_metrics_equals_values_computed_by_hand():
    # a: 2 of 3 found, 1 false alarm; b: 1 of 2 found, 1 false alarm.
    truth, guess = [0, 0, 0, 1, 1], [0, 0, 1, 1, 0]
    values = compute_metrics(("accuracy", "f1_macro", "precision_macro", "recall_macro"), guess, truth)
    assert values["accuracy"] == pytest.approx(3 / 5)
    assert values["precision_macro"] == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert values["recall_macro"] == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert values["f1_macro"] == pytest.approx((2 / 3 + 1 / 2) / 2)


def test_compute_metrics_of_label_sets_counts_each_label():
    truth, guess = [[1, 0, 1], [0, 1, 0]], [[1, 0, 0], [0, 1, 0]]
    values = compute_metrics(("f1_micro", "exact_match"), guess, truth)
    assert values == {"f1_micro": pytest.approx(2 * 2 / (2 + 3)), "exact_match": pytest.approx(0.5)}


def test_compute_metrics_of_a_regression():
    values = compute_metrics(("pearson", "spearman", "mse", "mae"), [1.0, 2.0, 4.0], [2.0, 3.0, 5.0])
    assert values == {
        "pearson": pytest.approx(1.0), "spearman": pytest.approx(1.0), "mse": pytest.approx(1.0),
        "mae": pytest.approx(1.0),
    }  # fmt: skip


@pytest.fixture
def half(tmp_path):
    """A folder with a metric of the user's own, which refuses to score nothing and does not say why."""
    folder = tmp_path / "half"
    folder.mkdir()
    (folder / "half.py").write_text(
        "import datasets\n"
        "import evaluate\n"
        "class Half(evaluate.Metric):\n"
        "    def _info(self):\n"
        "        kind = datasets.Value('int64')\n"
        "        features = datasets.Features({'predictions': kind, 'references': kind})\n"
        "        return evaluate.MetricInfo(description='', citation='', inputs_description='', features=features)\n"
        "    def _compute(self, predictions, references):\n"
        "        assert sum(predictions)\n"
        "        return {'half': sum(predictions) / 2}\n"
    )
    return str(folder)


def test_load_metric_takes_a_script_by_its_path(half):
    assert compute_metrics((half,), [1, 1], [0, 1]) == {"half": 1.0}


def test_compute_metrics_tells_of_an_error_without_words(half):
    with pytest.raises(FinetuneError, match="half failed: AssertionError"):
        compute_metrics((half,), [0, 0], [0, 1])


def test_load_metric_says_what_is_built_in_when_evaluate_finds_nothing():
    with pytest.raises(FinetuneError, match="no_such_metric is not built in") as caught:
        load_metric("no_such_metric")
    assert "matthews_correlation" in caught.value.hint


def test_greater_is_better_knows_errors_from_scores():
    assert greater_is_better("accuracy")
    assert not greater_is_better("mse")
