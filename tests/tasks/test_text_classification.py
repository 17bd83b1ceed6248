"""finetune.tasks.text_classification: the loss adds up however a batch is cut; predictions and constants."""

from types import SimpleNamespace

import numpy
import pytest
import torch

from finetune.tasks import Context, LabelScheme, all_tasks
from finetune.tasks.text_classification import TASK, balanced_weights, majority, most_common, reduce

SINGLE = LabelScheme("single_label_classification", ("a", "b", "c"))
MULTI = LabelScheme("multi_label_classification", ("a", "b", "c"))
REGRESSION = LabelScheme("regression")


def parts(logits, labels, scheme, weights=None, smoothing=0.0):
    """Return the summed loss and its weight."""
    context = Context(None, scheme, "encoder-only", 64, class_weights=weights, label_smoothing=smoothing)
    batch = {"labels": labels}
    return TASK.loss(SimpleNamespace(logits=logits), batch, context), TASK.loss_weight(batch, context)


def mean(logits, labels, scheme, *options):
    loss, weight = parts(logits, labels, scheme, *options)
    return loss / weight


def predict(logits, scheme):
    context = Context(None, scheme, "encoder-only", 64)
    return reduce(SimpleNamespace(logits=torch.tensor(logits)), {}, context)


@pytest.mark.parametrize("weights", [None, torch.tensor([1.0, 2.0, 5.0])])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_loss_of_one_label_equals_torch(weights, smoothing):
    torch.manual_seed(0)
    logits, labels = torch.randn(7, 3), torch.tensor([0, 1, 2, 2, 1, 0, 2])
    expected = torch.nn.functional.cross_entropy(logits, labels, weight=weights, label_smoothing=smoothing)
    assert float(mean(logits, labels, SINGLE, weights, smoothing)) == pytest.approx(float(expected), rel=1e-6)


def test_loss_of_several_labels_and_of_numbers_equals_torch():
    torch.manual_seed(0)
    logits, flags = torch.randn(5, 3), torch.randint(0, 2, (5, 3)).float()
    expected = torch.nn.functional.binary_cross_entropy_with_logits(logits, flags)
    assert float(mean(logits, flags, MULTI)) == pytest.approx(float(expected), rel=1e-6)
    numbers = torch.randn(5)
    expected = torch.nn.functional.mse_loss(logits[:, 0], numbers)
    assert float(mean(logits[:, :1], numbers, REGRESSION)) == pytest.approx(float(expected), rel=1e-6)


def test_loss_adds_up_over_the_parts_of_a_batch():
    torch.manual_seed(0)
    weights = torch.tensor([1.0, 2.0, 5.0])
    logits, labels = torch.randn(8, 3), torch.tensor([0, 1, 2, 2, 1, 0, 2, 0])
    cut = [(logits[:3], labels[:3]), (logits[3:4], labels[3:4]), (logits[4:], labels[4:])]
    losses, divisors = zip(*(parts(*part, SINGLE, weights) for part in cut), strict=True)
    assert float(sum(losses)) / float(sum(divisors)) == pytest.approx(
        float(mean(logits, labels, SINGLE, weights)), rel=1e-6
    )


def test_predict_gives_labels_and_probabilities():
    single = predict([[0.0, 2.0, 0.0]], SINGLE)
    assert single["prediction"].tolist() == [1]
    assert single["probabilities"].sum() == pytest.approx(1)
    several = predict([[3.0, -3.0, 0.1]], MULTI)
    assert several["prediction"].tolist() == [[1, 0, 1]]
    assert {name: values.tolist() for name, values in predict([[1.5]], REGRESSION).items()} == {"prediction": [1.5]}


def test_majority_is_the_best_constant():
    assert most_common([2, 1, 2, 0], SINGLE) == 2
    assert most_common([2, 1], SINGLE) == 1  # a tie: the smaller id, whatever the order
    assert most_common([[1, 0, 0], [1, 1, 0], [0, 0, 0]], MULTI) == [1, 0, 0]
    assert most_common([1.0, 2.0, 6.0], REGRESSION) == 3.0


def test_majority_is_the_same_answer_for_every_row():
    answers = majority(numpy.array([[1, 0, 0], [1, 1, 0], [0, 0, 0]]), range(4), MULTI)
    assert answers["prediction"].tolist() == [[1, 0, 0]] * 4


def test_balanced_weights_make_every_class_count_the_same():
    labels = [0] * 6 + [1] * 3 + [2]
    weights = balanced_weights(labels, SINGLE)
    assert [weights[index] * labels.count(index) for index in range(3)] == pytest.approx([10 / 3] * 3)
    assert balanced_weights([[1, 0, 0], [1, 0, 1], [0, 0, 1], [1, 0, 0]], MULTI) == pytest.approx([1 / 3, 4, 1])


def test_the_folder_is_the_registry():
    assert all_tasks()["text-classification"] is TASK
