import io
import json

import pytest

from finetune.cli.app import main
from finetune.recipe.load import load_recipe


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train.csv").write_text("text,label\nfine,good\n")
    return tmp_path


def test_init_writes_a_recipe_that_is_valid_once_the_data_is_there(folder, capsys):
    assert main(["init"]) == 0
    assert "finetune validate recipe.yaml" in capsys.readouterr().out
    assert main(["validate", "recipe.yaml"]) == 0
    assert (folder / "recipe.yaml").read_text(encoding="utf-8").startswith("# yaml-language-server: $schema=")


def test_init_with_comments_taken_away_is_still_valid(folder):
    main(["init"])
    path = folder / "recipe.yaml"
    text = path.read_text(encoding="utf-8")
    for key in ("validation_size", "early_stopping_patience"):
        assert f"  # {key}: " in text
        text = text.replace(f"  # {key}: ", f"  {key}: ")
    path.write_text(text, encoding="utf-8")
    recipe = load_recipe(path).recipe
    assert recipe.dataset.columns == {"text": "text", "label": "label"}
    assert (recipe.dataset.validation_size, recipe.training.early_stopping_patience) == (0.1, 2)


def test_init_names_local_inputs_relative_to_the_recipe(folder):
    assert main(["init", "sub/mine.yaml", "--model", "x/y", "--data", "data/train.csv"]) == 0
    recipe = load_recipe(folder / "sub" / "mine.yaml").recipe
    assert recipe.dataset.path == str(folder / "data" / "train.csv")
    assert (recipe.model.name_or_path, recipe.name) == ("x/y", "mine")


def test_init_never_writes_over_a_file_unless_forced(folder, capsys):
    (folder / "recipe.yaml").write_text("mine", encoding="utf-8")
    assert main(["init"]) == 1
    assert "recipe.yaml is there already" in capsys.readouterr().err
    assert (folder / "recipe.yaml").read_text(encoding="utf-8") == "mine"
    assert main(["init", "--force"]) == 0
    assert "task: text-classification" in (folder / "recipe.yaml").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ("text-clasification", "text-clasification is not a task; did you mean text-classification?"),
        ("cooking", "cooking is not a task"),
    ],
)
def test_init_refuses_unknown_tasks(folder, capsys, task, message):
    assert main(["init", "--task", task]) == 1
    assert message in capsys.readouterr().err
    assert not (folder / "recipe.yaml").exists()


def columns_of(path):
    return load_recipe(path).recipe.dataset.columns


@pytest.mark.parametrize(
    ("row", "task", "columns"),
    [
        ({"review": "good", "sentiment": "pos"}, "text-classification", {"text": "review", "label": "sentiment"}),
        ({"Text": "good", "Label": 1}, "text-classification", {"text": "Text", "label": "Label"}),
        ({"tokens": ["a"], "ner_tags": ["O"]}, "token-classification", {"tokens": "tokens", "tags": "ner_tags"}),
        ({"article": "long", "highlights": "short"}, "summarization", {"source": "article", "target": "highlights"}),
        ({"prompt": "1+1=", "completion": "2"}, "text-generation", {"prompt": "prompt", "completion": "completion"}),
        ({"text": "once upon"}, "text-generation", {"text": "text"}),
        (
            {"question": "who", "context": "it was I", "answers": {"text": ["I"], "answer_start": [7]}},
            "question-answering",
            {"question": "question", "context": "context", "answers": "answers"},
        ),
        (
            {"question": "who", "choices": ["a", "b"], "answer": 0},
            "multiple-choice",
            {"question": "question", "choices": "choices", "answer": "answer"},
        ),
    ],
)
def test_init_finds_the_task_that_the_columns_fit(folder, row, task, columns):
    (folder / "rows.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    assert main(["init", "--data", "rows.jsonl"]) == 0
    loaded = load_recipe("recipe.yaml").recipe
    assert (loaded.task, loaded.dataset.columns) == (task, columns)
    assert main(["validate", "recipe.yaml"]) == 0


def test_init_says_what_it_found(folder, capsys):
    assert main(["init", "--data", "package:finetune/sample_data/shop_messages"]) == 0
    text = (folder / "recipe.yaml").read_text(encoding="utf-8")
    assert "640 rows in train, 160 rows in validation, 240 rows in test" in text
    assert "8 labels: " in text
    assert "validation_size" not in text


ODD = "a, b: {c}"


def test_init_takes_the_columns_that_it_is_told(folder, capsys):
    (folder / "rows.csv").write_text(f'"{ODD}",stars\nfine,5\nbad,1\n')
    assert main(["init", "--data", "rows.csv"]) == 1
    assert "--column text=… --column label=…" in capsys.readouterr().err
    assert main(["init", "--data", "rows.csv", "--column", f"text={ODD}", "--column", "label=stars"]) == 0
    assert columns_of("recipe.yaml") == {"text": ODD, "label": "stars"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "rows.cvs"], "Did you mean rows.csv?"),
        (["--data", "rows.csv", "--column", "txt=text"], "txt is no column of text-classification"),
        (["--data", "rows.csv", "--column", "text=texte"], "no column 'texte'"),
        (["--data", "rows.csv", "--column", "text"], "not of the form ROLE=NAME"),
        (["--data", "rows.csv", "--model", "./nowhere"], "nowhere"),
    ],
)
def test_init_writes_nothing_that_would_not_run(folder, capsys, arguments, message):
    (folder / "rows.csv").write_text("text,label\nfine,5\nbad,1\n")
    assert main(["init", *arguments]) in (1, 2)
    assert message in " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert not (folder / "recipe.yaml").exists()


def test_init_asks_in_a_terminal(folder, capsys, monkeypatch):
    (folder / "rows.csv").write_text("words,stars,when\nfine,5,x\nbad,1,y\n")
    answers = ["rows.cvs", "rows.csv", "99", "text-classification", "2", "words", "x/y"]
    monkeypatch.setattr("sys.stdin", io.StringIO("".join(f"{answer}\n" for answer in answers)))
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    assert main(["init"]) == 0
    said = capsys.readouterr()
    assert "Did you mean rows.csv?" in said.err
    assert "99 is none of them" in said.out
    loaded = load_recipe("recipe.yaml").recipe
    assert loaded.dataset.columns == {"text": "stars", "label": "words"}
    assert loaded.model.name_or_path == "x/y"


def test_init_shows_the_usual_columns_where_the_hub_tells_none(folder, capsys):
    assert main(["init", "--data", "owner/absent"]) == 0  # offline, as all tests
    noted = capsys.readouterr().err
    assert noted.startswith(
        "note: owner/absent tells no columns, so the usual ones are shown: owner/absent: the hub cannot"
    )
    assert "  # columns: {text: text, label: label}" in (folder / "recipe.yaml").read_text(encoding="utf-8")
    assert load_recipe("recipe.yaml").recipe.dataset.path == "owner/absent"


def test_init_says_what_to_do_in_its_own_words(folder, capsys):
    (folder / "data" / "train.csv").unlink()
    assert main(["init"]) == 0
    assert "put your data at data/train.csv, or name it in dataset.path" in capsys.readouterr().out
    (folder / "parts").mkdir()
    for part in ("test", "validation"):
        (folder / "parts" / f"{part}.csv").write_text("text,label\nfine,good\n", encoding="utf-8")
    assert main(["init", "other.yaml", "--data", "parts"]) == 1
    assert "error: the data has no split train; it has" in (err := capsys.readouterr().err)
    assert "hint: Name the file to train on: --data parts/<file>" in err
    assert main(["init", "other.yaml", "--data", "parts/test.csv", "--column", "text=body"]) == 1
    assert "error: --column text: parts/test.csv has no column 'body'" in capsys.readouterr().err
