import json

import pytest

from finetune.runs.page.confusion import MATRIX_CLASSES, confusion
from tests.runs.builders import make_run


def run_with(tmp_path, rows, split="test", **fields):
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    (tmp_path / f"predictions-{split}.jsonl").write_text("\n".join(lines) + "\n")
    return make_run("a", directory=tmp_path, **fields)


def answers(*pairs):
    return [{"row": number, "reference": truth, "prediction": answer} for number, (truth, answer) in enumerate(pairs)]


def test_confusion_counts_true_classes_down_and_answers_across(tmp_path):
    run = run_with(
        tmp_path,
        answers(("yes", "yes"), ("yes", "no"), ("yes", "yes"), ("no", "no")),
        dataset={"label_names": ["no", "yes", "maybe"]},
    )
    found, note = confusion(run)
    assert note is None
    assert found["classes"] == ["no", "yes"]  # the order of the labels; maybe never came up
    assert [[cell["count"] for cell in line["cells"]] for line in found["matrix"]] == [[1, 0], [1, 2]]
    yes = found["per_class"][1]
    assert (yes["rows"], yes["precision"], yes["recall"]) == (3, 1.0, pytest.approx(2 / 3))
    assert yes["f1"] == pytest.approx(2 * 2 / (3 + 2))
    assert yes["most_taken_for"] == "no (1)"


def test_confusion_agrees_with_scikit_learn(tmp_path):
    from random import Random

    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

    draw, names = Random(1), ["a", "b", "c"]
    pairs = [(draw.choice(names), draw.choice(names)) for _ in range(200)]
    found, _ = confusion(run_with(tmp_path, answers(*pairs)))
    truth, answer = zip(*pairs, strict=True)
    assert [[cell["count"] for cell in line["cells"]] for line in found["matrix"]] == confusion_matrix(
        truth, answer
    ).tolist()
    theirs = precision_recall_fscore_support(truth, answer)
    for number, row in enumerate(found["per_class"]):
        ours = (row["precision"], row["recall"], row["f1"], row["rows"])
        assert ours == pytest.approx([column[number] for column in theirs])


def test_confusion_of_a_class_that_is_never_answered_has_no_precision(tmp_path):
    found, _ = confusion(run_with(tmp_path, answers(("a", "b"), ("b", "b"))))
    assert found["per_class"][0]["precision"] is None
    assert found["per_class"][0]["recall"] == 0.0


def test_confusion_takes_the_split_of_the_main_score(tmp_path):
    run = run_with(tmp_path, answers(("a", "a")), split="validation")
    assert confusion(run)[0]["split"] == "validation"
    run_with(tmp_path, answers(("a", "b")), split="test")
    assert confusion(run)[0]["split"] == "test"


def test_confusion_of_many_classes_is_a_table_without_a_matrix(tmp_path):
    pairs = [(f"c{number}", f"c{number}") for number in range(MATRIX_CLASSES + 1)]
    found, _ = confusion(run_with(tmp_path, answers(*pairs)))
    assert found["matrix"] is None
    assert len(found["per_class"]) == MATRIX_CLASSES + 1


@pytest.mark.parametrize("row", [{"reference": 0.5, "prediction": 0.4}, {"reference": ["a"], "prediction": []}, [1]])
def test_confusion_of_other_answers_is_none(tmp_path, row):
    assert confusion(run_with(tmp_path, [row])) == (None, None)


def test_confusion_of_a_broken_file_says_where(tmp_path):
    found, note = confusion(run_with(tmp_path, [*answers(("a", "a")), '{"reference": "a", "pred']))
    assert found is None
    assert note == "predictions-test.jsonl, line 2: not valid JSON: no table by class"


def test_confusion_without_predictions_is_none(tmp_path):
    assert confusion(make_run("a", directory=tmp_path)) == (None, None)
    assert confusion(make_run("a")) == (None, None)
    assert confusion(run_with(tmp_path, []))[0] is None
