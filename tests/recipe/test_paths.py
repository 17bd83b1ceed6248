import pytest

from finetune.errors import FinetuneError
from finetune.recipe.load import load_recipe


def load_with(folder, model="a/b", path=None, files=None):
    lines = ["task: text-classification", f"model: {{name_or_path: {model}}}", "dataset:", "  seed: 0"]
    lines += [f"  path: {path}"] if path else []
    lines += [f"  data_files: {files}"] if files else []
    (folder / "recipe.yaml").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return load_recipe("recipe.yaml").recipe


@pytest.mark.parametrize("hub_id", ["owner/name", "imdb", "distilbert-base-uncased", "nyu-mll/glue", "a.b/c-d_e"])
def test_paths_leave_hub_ids_alone(folder, hub_id):
    recipe = load_with(folder, model=hub_id, path=hub_id)
    assert (recipe.model.name_or_path, recipe.dataset.path) == (hub_id, hub_id)


@pytest.mark.parametrize("written", ["data/train.csv", "./data/train.csv", "models/../data/train.csv"])
def test_paths_of_files_become_absolute(folder, written):
    assert load_with(folder, path=written).dataset.path == str(folder / "data" / "train.csv")


@pytest.mark.parametrize("name", ["rows.tab", "rows.text", "rows.feather", "rows.ndjson", "rows.csv.gz"])
def test_paths_a_data_file_that_is_not_there_is_no_id_of_the_hub(folder, name):
    with pytest.raises(FinetuneError, match=rf"{name} does not exist"):
        load_with(folder, path=name)


def test_paths_owner_slash_name_that_is_there_is_a_folder(folder):
    assert load_with(folder, model="models/tiny", path="c/d").model.name_or_path == str(folder / "models" / "tiny")


def test_paths_package_references_stay_as_written(folder):
    (folder / "x").mkdir()
    recipe = load_with(folder, path="package:finetune/sample_data/shop_messages")
    assert recipe.dataset.path == "package:finetune/sample_data/shop_messages"


def test_paths_data_files_of_a_hub_dataset_are_files_of_its_repository(folder):
    recipe = load_with(folder, path="owner/name", files="{train: data/no-such.parquet}")
    assert recipe.dataset.data_files == {"train": "data/no-such.parquet"}


@pytest.mark.parametrize("builder", ["csv", "json", "parquet", "text"])
def test_paths_a_format_with_data_files_is_no_path(folder, builder):
    recipe = load_with(folder, path=builder, files="{train: data/train.csv}")
    assert recipe.dataset.path == builder
    assert recipe.dataset.data_files == {"train": str(folder / "data" / "train.csv")}


def test_paths_follow_the_recipe_through_a_symbolic_link_to_its_folder(folder):
    (folder / "real" / "deep").mkdir(parents=True)
    (folder / "real" / "train.csv").write_text("text,label\n")
    (folder / "real" / "deep" / "recipe.yaml").write_text(
        "task: text-classification\nmodel: {name_or_path: a/b}\ndataset: {path: ../train.csv}\n"
    )
    (folder / "link").symlink_to(folder / "real" / "deep")
    recipe = load_recipe("link/recipe.yaml").recipe
    assert recipe.dataset.path == str(folder / "real" / "train.csv")


@pytest.mark.parametrize("written", ["$DATA/train.csv", "${DATA}/train.csv", "~/train.csv", "%DATA%/train.csv"])
def test_paths_variables_are_never_expanded(folder, monkeypatch, written):
    monkeypatch.setenv("DATA", str(folder / "data"))
    monkeypatch.setenv("HOME", str(folder / "data"))
    with pytest.raises(FinetuneError, match="not expanded in a recipe"):
        load_with(folder, path=f"'{written}'")


def test_paths_missing_file_in_a_missing_folder_names_the_folder_that_was_meant(folder):
    with pytest.raises(FinetuneError) as caught:
        load_with(folder, path="dta/train.csv")
    assert caught.value.message.endswith(f"{folder}/dta/train.csv does not exist; did you mean {folder}/data?")
