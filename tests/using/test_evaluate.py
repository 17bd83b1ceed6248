import json
from pathlib import Path

import pytest

from finetune.cli.app import main
from finetune.data.labelled import read_labelled
from finetune.errors import FinetuneError
from finetune.tasks import LabelScheme, all_tasks
from finetune.tasks.text_classification import MULTI, REGRESSION, SINGLE

CLASSES = LabelScheme(SINGLE, ("bad", "good"))
TASK = all_tasks()["text-classification"]
KNOWN = {"text": "text", "label": "label"}


def write(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def labels_of(path: Path, labels: LabelScheme = CLASSES, known=KNOWN, **given: str):
    return read_labelled(path, TASK, known, given, labels)


def refusal(*arguments, **given) -> tuple[str, str]:
    with pytest.raises(FinetuneError) as caught:
        labels_of(*arguments, **given)
    return caught.value.message, caught.value.hint or ""


@pytest.fixture(scope="module")
def evaluated(toy_runs, toy_data, tmp_path_factory):
    """Return what evaluating the toy run on its own test rows printed, as JSON, and the page."""
    import contextlib
    import io

    folder = tmp_path_factory.mktemp("evaluated")
    before = sorted(path.name for path in next(toy_runs.iterdir()).iterdir())
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        code = main(["evaluate", "toy", "--on", str(toy_data / "test.jsonl"), "--json", "--html",
                     str(folder / "page.html"), "--output-dir", str(toy_runs)])  # fmt: skip
    assert code == 0
    assert sorted(path.name for path in next(toy_runs.iterdir()).iterdir()) == before
    return json.loads(printed.getvalue()), (folder / "page.html").read_text()


def test_evaluate_gives_the_scores_of_the_run_on_the_runs_own_rows(evaluated, toy_runs):
    content, _ = evaluated
    record = json.loads((next(toy_runs.iterdir()) / "run.json").read_text())
    own = record["metrics"]["test"]
    assert set(content["metrics"]) == set(own)
    for name, entry in own.items():
        assert content["metrics"][name] == pytest.approx(entry, abs=1e-6), name
    assert content["of_the_run"] == {"split": "test", "name": "accuracy", **own["accuracy"]}
    assert (content["rows"], content["dropped_rows"]) == (16, 0)


def test_evaluate_counts_classes_and_shows_the_surest_mistakes(evaluated, toy_runs, toy_data):
    content, page = evaluated
    lines = (next(toy_runs.iterdir()) / "predictions-test.jsonl").read_text().splitlines()
    answers = [json.loads(line) for line in lines]
    assert content["matrix"] == [
        [sum((a["reference"], a["prediction"]) == (true, said) for a in answers) for said in content["classes"]]
        for true in content["classes"]
    ]
    wrong = sorted((a for a in answers if a["reference"] != a["prediction"]), key=lambda a: -a["probability"])
    assert [m["row"] for m in content["mistakes"]] == [a["row"] for a in wrong[:10]]
    texts = [json.loads(line)["text"] for line in (toy_data / "test.jsonl").read_text().splitlines()]
    for mistake in content["mistakes"]:
        assert mistake["inputs"] == texts[mistake["row"] - 1]
        assert mistake["inputs"] in page


def test_evaluate_measures_what_it_took(evaluated):
    emissions = evaluated[0]["emissions"]
    assert emissions["energy_kwh"] > 0
    assert emissions["wh_per_1000_predictions"] > 0
    assert emissions["inference"]["rows"] == 3 * 16
    assert emissions["carbon_intensity"]["location"].startswith("BRA")
    assert {"load", "preprocess", "evaluate"} <= set(emissions["phases"])


def test_evaluate_prints_tables_for_people(evaluated):
    from finetune.using.report import evaluation_text

    text = evaluation_text(evaluated[0], "toy", 100)
    assert "toy on test.jsonl: 16 rows" in text
    assert "accuracy of the run itself, on test:" in text
    assert "Wh per 1,000 rows" in text
    wide = [
        "a class with a name so long that two of them are wider",
        "than any terminal that people have on their desks",
    ]
    shown = evaluation_text({**evaluated[0], "classes": wide, "matrix": [[3, 1], [0, 4]]}, "toy", 80)
    assert "1 a class with a name" in shown
    assert "3  1" in shown


def test_evaluate_without_a_file_says_what_to_type(capsys):
    assert main(["evaluate", "toy"]) == 1
    assert "--on FILE" in capsys.readouterr().err


def test_labels_unknown_to_the_model_are_one_error_that_names_all(tmp_path):
    rows = [{"text": "a day", "label": label} for label in ("good", "godo", "odd", "odd")]
    message, hint = refusal(write(tmp_path / "new.jsonl", *rows))
    assert message.endswith("the model has no label 'odd' (2 rows) and 'godo' (1 row); it has 'bad', 'good'")
    assert "Did you mean 'good' for 'godo'?" in hint


def test_columns_that_are_misspelt_are_guessed(tmp_path):
    file = write(tmp_path / "new.jsonl", {"body": "a day", "intnt": "good", "n": 1})
    message, hint = refusal(file, CLASSES, {"text": "body", "label": "intent"})
    assert "no column is named as a label usually is" in message
    assert hint == "Did you mean --column label=intnt? The run's own data calls it 'intent'."
    assert labels_of(file, CLASSES, {"text": "body", "label": "intent"}, label="intnt").columns == {
        "text": "body", "label": "intnt",
    }  # fmt: skip
    assert "--column label: " in refusal(file, label="intn")[0]


@pytest.mark.parametrize(
    ("labels", "names", "expected"),
    [
        (["good", "bad", " good "], ("bad", "good"), [1, 0, 1]),
        (["2", "10", "2"], ("2", "10"), [0, 1, 0]),
        (["TRUE", "false", "True"], ("false", "true"), [1, 0, 1]),
        (["2.0", "10", "2"], ("2", "10"), [0, 1, 0]),
        (["007", "7", "007"], ("007", "7"), [0, 1, 0]),
    ],
)
def test_labels_of_a_csv_are_read_as_the_model_names_them(tmp_path, labels, names, expected):
    (tmp_path / "new.csv").write_text("text,label\n" + "".join(f"a day,{label}\n" for label in labels))
    found = labels_of(tmp_path / "new.csv", LabelScheme(SINGLE, names))
    assert found.rows["label"][:] == expected


def test_numbers_are_read_as_ids_and_that_is_said(tmp_path):
    file = write(tmp_path / "new.jsonl", {"text": "a day", "label": 1}, {"text": "a night", "label": 0})
    found = labels_of(file)
    assert found.rows["label"][:] == [1, 0]
    assert "The labels are numbers, read as the ids of the model: 0 = bad, 1 = good." in found.notes
    assert "no label '2'" in refusal(write(tmp_path / "more.jsonl", {"text": "a day", "label": 2}))[0]


def test_names_that_a_file_declares_win_over_the_order_of_the_model(tmp_path):
    from datasets import ClassLabel, Dataset, Features, Value

    features = Features({"text": Value("string"), "label": ClassLabel(names=["good", "bad"])})
    Dataset.from_dict({"text": ["a day", "a night"], "label": [0, 1]}, features).to_parquet(tmp_path / "new.parquet")
    assert labels_of(tmp_path / "new.parquet").rows["label"][:] == [1, 0]


def test_sets_of_labels_and_numbers_are_read_too(tmp_path):
    file = write(tmp_path / "new.jsonl", {"text": "a day", "label": ["b"]}, {"text": "a night", "label": []})
    assert labels_of(file, LabelScheme(MULTI, ("a", "b"))).rows["label"][:] == [[0, 1], [0, 0]]
    assert "no label 'b'; it has 'a', 'c'" in refusal(file, LabelScheme(MULTI, ("a", "c")))[0]
    single = write(tmp_path / "one.jsonl", {"text": "a day", "label": "b"})
    assert "several labels a row" in refusal(single, LabelScheme(MULTI, ("a", "b")))[0]
    assert "one label a row" in refusal(file)[0]
    numbers = write(tmp_path / "numbers.jsonl", {"text": "a day", "label": 0.5}, {"text": "a night", "label": 2})
    assert labels_of(numbers, LabelScheme(REGRESSION)).rows["label"][:] == [0.5, 2.0]


def test_rows_without_a_label_are_refused(tmp_path):
    assert "no row has a label" in refusal(write(tmp_path / "new.jsonl", {"text": "a day", "label": None}))[0]


def test_tags_unknown_to_the_model_are_named(tmp_path):
    task = all_tasks()["token-classification"]
    file = write(tmp_path / "new.jsonl", {"tokens": ["Ana", "sings"], "tags": ["B-PER", "B-ACT"]})
    labels = LabelScheme("entities", ("O", "B-PER", "I-PER"))
    with pytest.raises(FinetuneError, match="the model has no label 'B-ACT'"):
        read_labelled(file, task, {}, {}, labels)
    file = write(tmp_path / "iob1.jsonl", {"tokens": ["Ana", "May", "sings"], "tags": ["I-PER", "I-PER", "O"]})
    assert read_labelled(file, task, {}, {}, labels).rows["tags"][:] == [[1, 2, 0]]
    spans = write(tmp_path / "spans.jsonl", {"text": "Ana sings", "spans": [{"start": 0, "end": 3, "label": "LOC"}]})
    with pytest.raises(FinetuneError, match="the model has no label 'LOC'"):
        read_labelled(spans, task, {}, {}, labels)
