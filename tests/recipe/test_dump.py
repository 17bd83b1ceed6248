import json

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from finetune.recipe.dump import quote, recipe_settings
from finetune.recipe.load import dump_recipe, load_recipe
from finetune.recipe.schema import Recipe
from finetune.recipe.yaml_lines import read_yaml

NAMES = st.text(alphabet=st.sampled_from("abcé019_"), min_size=1, max_size=8)
PRINTABLE = st.characters(exclude_categories=["Cs", "Cc", "Cn", "Co"])  # the rest cannot stand in YAML as it is
TRICKY = ["no", "1e5", "0o17", "null", "~", "2020-01-01", "a: b", "#", "- x", "a\nb\n", "\t", "'", '"', " x "]
WORDS = st.text(alphabet=PRINTABLE, min_size=1, max_size=12) | st.sampled_from(TRICKY)
CHANGES = st.fixed_dictionaries(
    {},
    optional={
        "name": NAMES,
        "tags": st.lists(WORDS, max_size=3),
        "output_dir": NAMES,
        "model.revision": st.none() | WORDS,
        "model.freeze": st.sampled_from(["none", "embeddings", 1, 6]),
        "dataset.name": st.none() | WORDS,
        "dataset.columns.text": WORDS.map(lambda word: f"t{word}"),
        "dataset.columns.label": st.lists(WORDS.map(lambda word: f"l{word}"), min_size=1, max_size=3),
        "dataset.validation_size": st.none() | st.floats(0.01, 0.99),
        "dataset.problem_type": st.sampled_from(["auto", "single_label_classification"]),
        "peft.method": st.sampled_from(["lora", "ia3"]),
        "training.layerwise_lr_decay": st.none() | st.floats(0.01, 1),
        "training.num_train_epochs": st.floats(0.01, 1e4),
        "training.max_steps": st.none() | st.integers(1, 10**9),
        "training.learning_rate": st.floats(1e-12, 10),
        "training.warmup_steps": st.integers(0, 10**6) | st.floats(0, 0.999),
        "training.class_weights": st.none()
        | st.just("balanced")
        | st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=3),
        "training.eval_strategy": st.sampled_from(["no", "epoch", "steps"]),
        "training.seed": st.integers(0, 2**32 - 1),
        "evaluation.metrics": st.none() | st.just(["accuracy", "roc_auc"]),
        "emissions.country_iso_code": st.sampled_from(["BRA", "NOR", None]),
        "tracking.report_to": st.sampled_from(["none", "wandb", ["wandb", "mlflow"]]),
        "tracking.project": st.none() | WORDS,
    },
)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(CHANGES)
def test_dump_loads_back_to_an_equal_recipe(write, folder, changes):
    write()
    first = load_recipe(
        "recipe.yaml", [f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in changes.items()]
    )
    for key, value in changes.items():
        *sections, leaf = key.split(".")
        found = first.recipe
        for name in sections:
            found = found[name] if isinstance(found, dict) else getattr(found, name)
        assert (found[leaf] if isinstance(found, dict) else getattr(found, leaf)) == value
    (folder / "resolved.yaml").write_text(dump_recipe(first.recipe), encoding="utf-8")
    assert load_recipe("resolved.yaml").recipe == first.recipe


def test_dump_relative_to_a_run_directory_names_no_folder_above_and_loads_back_from_there(folder, monkeypatch):
    (folder / "metric.py").write_text("")
    (folder / "recipe.yaml").write_text(
        "task: text-classification\nmodel: {name_or_path: ./models/tiny}\n"
        "dataset: {data_files: {train: data/train.csv, validation: [data/te*.csv]}}\n"
        "evaluation: {metrics: [./metric.py]}\n"
    )
    recipe = load_recipe("recipe.yaml").recipe
    run = folder / "runs" / "one"
    run.mkdir(parents=True)
    text = dump_recipe(recipe, relative_to=run)
    assert str(folder) not in text
    assert "../../models/tiny" in text
    (run / "recipe.yaml").write_text(text, encoding="utf-8")
    monkeypatch.chdir("/")
    assert load_recipe(run / "recipe.yaml").recipe == recipe


def test_dump_settings_are_json_values_of_the_recipe(write, folder):
    write(base="task: text-classification\nmodel: {name_or_path: models/tiny}\ndataset: {path: data}\n")
    recipe = load_recipe("recipe.yaml").recipe
    assert Recipe.model_validate(json.loads(json.dumps(recipe_settings(recipe)))) == recipe
    assert recipe_settings(recipe, relative_to=folder)["dataset"]["path"] == "./data"


@given(st.text(max_size=30))
def test_dump_quotes_any_text_so_that_it_reads_back(text):
    root, faults = read_yaml(f"key: {quote(text)}\n")
    assert faults == []
    assert root.plain() == {"key": text}
