"""The benchmarks of tasks: counts by hand, recipes, what is stored and resumed; and, slow, one small run of each."""

import json
from pathlib import Path

import pytest
import yaml

from benchmarks import pairs, publishing, scratch, task_scores, tasks
from benchmarks.__main__ import parse
from benchmarks.tasks import Outcome
from tests import tiny

DATA = Path(__file__).parents[2] / "shared" / "data"
NAMES = sorted(task_scores.METRICS)


@pytest.fixture
def readme(tmp_path, monkeypatch):
    path = tmp_path / "README.md"
    path.write_text("".join(f"<!-- {name}: begin -->\n<!-- {name}: end -->\n" for name in ("tasks", "scratch")))
    monkeypatch.setattr(publishing, "README", path)
    monkeypatch.setattr(publishing, "RESULTS", tmp_path / "results")
    return path


def write_splits(folder, rows):
    folder.mkdir(parents=True)
    for name in tasks.SPLITS:
        lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (folder / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")
    return folder


def test_task_scores_count_by_hand():
    row = {"tags": ["B-PER", "I-PER", "O", "B-LOC"]}
    assert task_scores.entity_counts(["B-PER", "I-PER", "O", "O"], row) == (2.0, 3.0)
    assert task_scores.entity_counts(["B-PER", "O", "O", None], row) == (0.0, 3.0)
    assert task_scores.tag_counts(["B-PER", "O", "O", None], row) == (2.0, 4.0)
    assert task_scores.label_counts("a", {"label": "a"}) == (1.0, 1.0)
    assert task_scores.label_counts(1, {"label": 2}) == (0.0, 1.0)
    answers = {"answers": {"text": ["the Tagus", "river Tagus"], "answer_start": [0, 9]}}
    assert task_scores.answer_counts("Tagus.", answers) == (1.0, 1.0)
    assert task_scores.answer_counts("Douro", answers) == (0.0, 1.0)


def test_contributions_average_to_the_score_and_follow_the_weight_of_a_row():
    counts = [(2.0, 3.0), (0.0, 1.0), (4.0, 4.0), (1.0, 5.0)]
    values = task_scores.contributions(counts)
    assert sum(values) / 4 == pytest.approx(task_scores.score(counts)) == pytest.approx(7 / 13)
    step = 1e-6  # the derivative of the score by the share of row 2, taken from all others
    moved = [(a * (1 - step) + 4 * step * (i == 2) * a, b * (1 - step) + 4 * step * (i == 2) * b) for i, (a, b) in
             enumerate(counts)]  # fmt: skip
    slope = (task_scores.score(moved) - task_scores.score(counts)) / step
    assert values[2] - task_scores.score(counts) == pytest.approx(slope, rel=1e-4)


def test_counts_come_back_from_words():
    counts = [(1.0, 1.0), (0.0, 1.0), (2 / 3, 1.0), (12.0, 13.0), (0.0, 0.0)]
    words = task_scores.in_words(counts)
    assert words.startswith("1 0 0.6666666667 12/13 ")
    assert task_scores.from_words(words) == [(pytest.approx(above), below) for above, below in counts]


def test_difference_by_row_is_that_of_right_and_wrong_rows():
    right = [([1.0, 1.0, 0.0, 1.0], [0.0, 1.0, 0.0, 1.0]), ([1.0, 0.0, 1.0, 1.0], [1.0, 0.0, 0.0, 1.0])]
    wrong = [({3}, {1, 3}), ({2}, {2, 3})]
    assert pairs.difference_by_row(right) == pairs.paired_difference(wrong, 4)
    none = pairs.difference_by_row([([1.0, 0.5], [1.0, 0.5])])
    assert (none["mean"], none["p_rows"], none["low"]) == (0.0, 1.0, None)
    assert pairs.difference_by_row([([1.0] * 40, [0.0] * 20 + [1.0] * 20)])["p_rows"] < 1e-6


@pytest.mark.parametrize("name", NAMES)
def test_benchmark_recipe_is_valid_where_its_data_is(name):
    from finetune.recipe.load import check_recipe

    if not (DATA / name).is_dir():
        pytest.skip(f"{name} is not beside the checkout")
    checked = check_recipe(tasks.RECIPES / f"{name}.yaml", [f"dataset.path={DATA / name}"])
    assert not checked.problems
    recipe = checked.loaded.recipe
    with (DATA / name / "train.jsonl").open(encoding="utf-8") as lines:
        assert set(recipe.dataset.columns.values()) <= json.loads(next(lines)).keys()


def test_benchmark_recipes_are_one_a_data_set_and_need_no_more_than_a_folder(tmp_path):
    from finetune.recipe.load import check_recipe

    assert sorted(path.stem for path in tasks.RECIPES.glob("*.yaml")) == NAMES
    for name in NAMES:
        missing = check_recipe(tasks.RECIPES / f"{name}.yaml").problems
        assert [problem.key for problem in missing] in ([], ["dataset.path"])  # [] where someone put the data
        write_splits(tmp_path / name, [{"any": "row"}])
        settings = tasks.settings_of(tmp_path, name)
        assert settings["task"] in (
            "text-classification",
            "token-classification",
            "question-answering",
            "multiple-choice",
        )
        assert settings["learning-rate"] == (1e-4 if name in ("codah", "told_br") else 3e-4)


def test_tasks_turns_take_a_seed_of_all_before_the_next():
    order = tasks.turns(["codah", "wnut17"], [1, 2], {("codah", "Trainer", 1)})
    assert order == [
        ("codah", "finetune", 1), ("wnut17", "finetune", 1), ("wnut17", "Trainer", 1), ("codah", "Trainer", 2),
        ("codah", "finetune", 2), ("wnut17", "Trainer", 2), ("wnut17", "finetune", 2),
    ]  # fmt: skip


def test_tasks_store_each_run_resume_and_keep_other_data_sets(tmp_path, readme, monkeypatch, capsys):
    for name in ("codah", "told_br"):
        write_splits(tmp_path / "data" / name, [{"any": "row"}])
    started = []

    def trainer(data, name, seed, settings, folder):
        started.append((name, "Trainer", seed))
        if len(started) == 4:
            raise RuntimeError("killed")
        return Outcome(name, "Trainer", seed, 9, 0.5, 0.5, "1 0 1 0")

    def finetune(data, name, seed, folder):
        assert data.is_absolute()
        started.append((name, "finetune", seed))
        return Outcome(name, "finetune", seed, 9, 0.5, 0.75, "1 1 1 0"), 0.25

    monkeypatch.setattr(tasks, "run_trainer", trainer)
    monkeypatch.setattr(tasks, "run_finetune", finetune)
    with pytest.raises(RuntimeError, match="killed"):
        tasks.run(tmp_path / "data", [1])
    assert len(publishing.read_published("tasks")["runs"]) == 3
    tasks.run(tmp_path / "data", [1], resume=True)
    assert started[3:] == [("told_br", "Trainer", 1)] * 2
    table = readme.read_text()
    assert "| codah | multiple-choice | accuracy | 4 | 0.250 | 0.7500 | 0.5000 | 1 | +25.00 | one seed |" in table
    assert "wnut17 skipped" in capsys.readouterr().out
    monkeypatch.chdir(tmp_path)
    tasks.run(Path("data"), [2], names=["codah"])  # anew: the stored runs of told_br stay, those of codah go
    assert [(run["dataset"], run["seed"]) for run in publishing.read_published("tasks")["runs"]] == [
        ("told_br", 1), ("told_br", 1), ("codah", 2), ("codah", 2),
    ]  # fmt: skip
    tasks.run(None, [1])
    assert "skipped: --data names" in capsys.readouterr().out


def test_stored_task_results_hold_what_their_rows_give():
    stored = publishing.read_published("tasks")
    if not stored:
        pytest.skip("the benchmark has not been run")
    for run in stored["runs"]:
        assert run["test"] == pytest.approx(task_scores.score(task_scores.from_words(run["rows"])), abs=1e-9)
    assert tasks.describe(stored) in publishing.README.read_text(encoding="utf-8")


def test_scratch_table_shows_losses_scores_and_words():
    entry = {
        "training": scratch.TRAININGS[1].__dict__, "parameters": 1_234_567, "validation_loss": [5.0, 4.0, 3.0],
        "untrained": {"perplexity": 2345.6}, "test": {"perplexity": 12.34, "rougeL": 0.4321, "bleu": 0.1},
        "test_rows": 40, "generated": ["There is a `place`"],
    }  # fmt: skip
    text = scratch.describe({"date": "d", "machine": "m", "versions": {"python": "3"}, "runs": [entry]})
    assert "| e2e_nlg, bart | 1.23 M | 300 | 5.00 → 4.00 → 3.00 | 2,346 | 12.3 | 0.432 | 0.100 | 40 |" in text
    assert '- e2e_nlg, bart: "There is a `place`"' in text


def test_benchmarks_parse_data_sets():
    assert parse(["tasks", "--sets", "codah"]).sets == ["codah"]
    assert parse(["scratch"]).sets == list(task_scores.METRICS)


TOYS = {
    "wnut17": lambda: [{"tokens": ["Ann", "saw", "Lisbon"], "tags": ["B-person", "O", "B-location"]}] * 12,
    "ud_ewt_pos": lambda: [{"tokens": ["Ann", "saw", "Lisbon"], "tags": ["PROPN", "VERB", "PROPN"]}] * 12,
    "xquad_en": lambda: tiny.toy_questions(count=12),
    "faquad_pt": lambda: tiny.toy_questions(count=12),
    "codah": lambda: [{**row, "label": row["answer"]} for row in tiny.toy_choices(12)],
    "told_br": lambda: [{"text": row["text"], "label": row["label"]} for row in tiny.toy_rows()[:12]],
}


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_trainer_script_answers_every_row(name, tmp_path, checkpoints):
    from benchmarks import task_script

    rows = TOYS[name]()
    data = write_splits(tmp_path / name, rows)
    (tmp_path / "rows.json").write_text(json.dumps([1, 2, 4, 5, 6, 7, 8, 9]))
    settings = tasks.settings_of(tmp_path, name) | {
        "model": checkpoints("bert"), "data": data, "result": tmp_path / "result.json", "seed": 1, "max-length": 48,
        "train-rows": tmp_path / "rows.json", "mixed-precision": "no", "epochs": 1,
    }  # fmt: skip
    settings |= {"doc-stride": 8} if "doc-stride" in settings else {}
    found = task_script.train(task_script.parse([f"--{key}={value}" for key, value in settings.items()]), str(tmp_path))
    assert found["steps"] == 1
    for split in ("validation", "test"):
        counts = tasks._counts(data, name, split, found[split])
        assert len(counts) == len(rows)
        assert 0 <= task_scores.score(counts) <= 1


@pytest.mark.slow
def test_trainer_scripts_answer_in_the_order_of_the_rows(tmp_path, checkpoints):
    """Trainer sorts rows by length to predict, too, where it does to train."""
    from benchmarks import task_script, trainer_script

    words = [(tiny.GOOD, tiny.BAD)[place % 3 == 0][0] for place in range(40)]
    rows = [{"text": " ".join([word] * (1 + place * 7 % 20)), "label": word} for place, word in enumerate(words)]
    data = write_splits(tmp_path / "data", rows)
    wrong = {**rows[5], "label": tiny.BAD[0]}
    (data / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [*rows[:5], wrong, *rows[6:]]))
    options = {
        "model": checkpoints("bert"), "data": data, "result": tmp_path / "result.json", "seed": 1, "max-length": 48,
        "learning-rate": 5e-3, "epochs": 8, "batch-size": 4, "eval-batch-size": 4,
    }  # fmt: skip
    line = [f"--{key}={value}" for key, value in options.items()]
    found = task_script.train(task_script.parse([*line, "--task=text-classification"]), str(tmp_path / "one"))
    assert found["test"] == words
    assert trainer_script.train(trainer_script.parse(line), str(tmp_path / "two"))["wrong_rows"] == [6]


@pytest.mark.slow
def test_tasks_run_both_systems_on_the_same_rows(tmp_path, readme, monkeypatch, checkpoints):
    recipe = yaml.safe_load((tasks.RECIPES / "told_br.yaml").read_text(encoding="utf-8"))
    recipe["model"]["name_or_path"] = str(checkpoints("bert"))
    recipe["dataset"]["max_train_samples"] = 8
    recipe["preprocessing"]["max_length"] = 32
    recipe["training"]["eval_strategy"] = "no"  # which PyYAML, of YAML 1.1, has read as false
    monkeypatch.setattr(tasks, "RECIPES", tmp_path)
    (tmp_path / "told_br.yaml").write_text(yaml.safe_dump(recipe))
    write_splits(tmp_path / "told_br", TOYS["told_br"]())
    rows = tasks.drawn_rows(tmp_path / "told_br", "told_br")
    assert len(rows) == 8
    assert set(rows) <= set(range(1, 13))
    tasks.run(tmp_path, [1], names=["told_br"])
    first, second = publishing.read_published("tasks")["runs"]
    assert (first["system"], second["system"], first["steps"]) == ("finetune", "Trainer", second["steps"])
    assert "| told_br | text-classification | accuracy | 12 |" in readme.read_text()
