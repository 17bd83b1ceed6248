import pytest

from finetune.cli.app import main
from finetune.recipe.load import load_recipe


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train.csv").write_text("text,label\n")
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
    for key in ("columns", "validation_size", "early_stopping_patience"):
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
