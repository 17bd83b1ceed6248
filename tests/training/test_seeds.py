"""training.seeds: a run for each seed; what starts the processes is played where only the order of things matters."""

import json
from types import SimpleNamespace

import pytest

from finetune.cli.app import main
from finetune.runs.record import Run, list_runs, new_run_directory, write_run
from finetune.training import seeds as module
from finetune.training.recorded import recipe_as_recorded
from finetune.training.words import Request, read_words
from tests.runs.builders import make_emissions

SEEDS = {"num_train_epochs": 1, "seeds": [1, 2, 3]}


@pytest.fixture
def play(monkeypatch, tmp_path):
    """Let each run end as told: `endings` maps a seed to (exit code, status, phases, signal); the rest completes."""
    played = SimpleNamespace(commands=[], counts=[], endings={})

    def launched(words, options, count, shows_result=True):
        played.commands.append((list(words), {name: value for name, value in options.items() if value}))
        played.counts.append(count)
        recipe = read_words(Request(words, resume=options["resume"]))[0].recipe
        seed = recipe.training.seed
        code, status, phases, signum = played.endings.get(seed, (0, "completed", ("train",), None))
        if status:
            directory, group = new_run_directory(tmp_path / "runs", "toy"), options["group"]
            if options["resume"]:
                directory = next(word for word in words if "toy-" in word)
                directory = tmp_path / "runs" / directory.rpartition("/")[2]
                group = json.loads((directory / "run.json").read_text())["group"]
            score = {"value": 0.8 + seed / 100, "low": 0.7, "high": 0.95, "n": 16}
            main_metric = {"name": "accuracy", **score, "split": "test", "greater_is_better": True}
            run = Run(
                directory.name, "toy", status=status, group=group, created_at=f"2026-01-01T00:00:0{seed}Z",
                recipe=recipe_as_recorded(recipe, directory), main_metric=main_metric if code == 0 else {},
                emissions={**make_emissions({"gpu": 0.001}), "phases": {name: {} for name in phases}},
            )  # fmt: skip
            write_run(run, directory)
        return code, signum

    monkeypatch.setattr(module, "launch_until_told", launched)
    return played


def seeds_started(played):
    return [next(word for word in words if word.startswith("training.seed=")) for words, _ in played.commands]


def test_seeds_are_one_ordinary_run_each_with_one_group(play, toy_recipe, tmp_path, capsys):
    recipe = toy_recipe(training=SEEDS)
    limits = ["--max-energy", "200Wh", "--idle-baseline", "5"]
    assert main(["run", str(recipe), "training.learning_rate=1e-3", "--country", "FRA", *limits]) == 0
    words, options = play.commands[0]
    assert words == [str(recipe), "training.learning_rate=1e-3", "training.seeds=null", "training.seed=1"]
    assert options == {
        "group": options["group"], "country": "FRA", "max-energy": "0.2kWh", "idle-baseline": 5.0,
    }  # fmt: skip
    assert seeds_started(play) == ["training.seed=1", "training.seed=2", "training.seed=3"]
    assert play.counts == [None] * 3
    runs, _ = list_runs(tmp_path / "runs")
    assert len({run.group for run in runs}) == 1
    assert [run.recipe["training"]["seeds"] for run in runs] == [None] * 3
    out, err = capsys.readouterr()
    # 0.81, 0.82, 0.83: mean 0.82, s = 0.01, 4.303 · 0.01 / √3 = 0.0248.
    assert "3 of 3 seeds finished (1, 2 and 3)" in out
    assert "accuracy on test: 0.820 ± 0.025 (mean of 3 seeds, 95 %)" in out
    assert "3.00 Wh in 3 runs" in out
    assert "seed 2 (2 of 3)" in err


def test_seeds_as_json_are_one_document(play, toy_recipe, capsys):
    assert main(["run", str(toy_recipe(training=SEEDS)), "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["finished"] == len(content["runs"]) == 3
    assert content["score"]["value"] == pytest.approx(0.82)
    assert content["energy_kwh"] == pytest.approx(0.003)


def test_seeds_one_that_fails_leaves_the_others_and_their_results(play, toy_recipe, tmp_path, capsys):
    recipe = toy_recipe(training=SEEDS)
    play.endings[2] = (1, "failed", ("load", "train"), None)
    assert main(["run", str(recipe), "--num-processes", "2"]) == 1
    assert len(play.commands) == 3
    assert play.counts == [2, 2, 2]
    out, err = capsys.readouterr()
    assert "2 of 3 seeds finished" in out
    assert "mean of 2 seeds" in out
    assert f"not finished: seed 2. Continue with: finetune run {recipe} --resume --num-processes 2" in err
    # --resume repeats what failed alone.
    play.commands.clear()
    play.endings.clear()
    assert main(["run", str(recipe), "--resume"]) == 0
    [(words, options)] = play.commands
    assert words[0] == str(recipe)
    assert words[2:] == ["training.seeds=null", "training.seed=2"]
    assert options == {"resume": True}
    assert {run.status for run in list_runs(tmp_path / "runs")[0]} == {"completed"}
    assert main(["run", str(recipe), "--resume"]) == 1
    assert "no unfinished group" in capsys.readouterr().err


def test_seeds_stop_where_every_seed_would_fail(play, toy_recipe, capsys):
    play.endings[1] = (1, "failed", ("load",), None)
    assert main(["run", str(toy_recipe(training=SEEDS))]) == 1
    assert len(play.commands) == 1
    assert "2 seeds left out" in capsys.readouterr().err
    play.endings[1] = (1, None, (), None)  # refused before it had a folder
    assert main(["run", str(toy_recipe(training=SEEDS))]) == 1
    assert len(play.commands) == 2


@pytest.mark.parametrize(("code", "status", "left"), [(130, "interrupted", "2 and 3"), (0, "completed", "3")])
def test_seeds_end_with_a_signal_and_go_on_with_what_is_missing(code, status, left, play, toy_recipe, capsys):
    recipe = toy_recipe(training=SEEDS)
    play.endings[2] = (code, status, ("train",), 2)
    assert main(["run", str(recipe)]) == 130
    assert len(play.commands) == 2
    assert f"not finished: seed {left}. Continue" in capsys.readouterr().err
    play.commands.clear()
    play.endings.clear()
    assert main(["run", str(recipe), "--resume"]) == 0
    expected = ["training.seed=2", "training.seed=3"] if code else ["training.seed=3"]
    assert seeds_started(play) == expected
    runs = list_runs(next(iter(recipe.parent.glob("runs"))))[0]
    assert len({run.group for run in runs}) == 1
    assert len(runs) == 3


def test_seeds_of_another_recipe_are_no_group_to_resume(play, toy_recipe, capsys):
    play.endings[3] = (1, "failed", ("train",), None)
    recipe = toy_recipe(training=SEEDS)
    assert main(["run", str(recipe)]) == 1
    assert main(["run", str(recipe), "--resume", "training.learning_rate=1e-4"]) == 1
    assert "no unfinished group" in capsys.readouterr().err
    assert main(["run", str(recipe), "nonesuch", "--resume"]) == 1
    assert "that nonesuch belongs to" in capsys.readouterr().err


def test_seeds_are_not_for_a_launcher(toy_recipe, monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert main(["run", str(toy_recipe(training=SEEDS))]) == 1
    assert "training.seeds asks for 3 runs" in capsys.readouterr().err


def test_seeds_a_dry_run_says_how_many_runs_there_are(toy_recipe, capsys):
    recipe = toy_recipe(training=SEEDS)
    assert main(["run", str(recipe), "--dry-run"]) == 0
    assert "runs        3, one for each of the seeds 1, 2 and 3" in capsys.readouterr().out
    assert main(["run", str(recipe), "--dry-run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["seeds"] == [1, 2, 3]


def test_seeds_a_smoke_run_tries_the_first(toy_recipe, tmp_path, capsys):
    assert main(["run", str(toy_recipe(training=SEEDS)), "--smoke", "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["recipe"]["training"]["seed"] == 1
    assert "only the first of 3 seeds is tried: 1" in err


def test_a_group_can_be_named(toy_recipe, tmp_path, capsys):
    words = ["training.max_steps=1", "--group", "mine", "--json"]
    assert main(["run", str(toy_recipe()), *words]) == 0
    assert json.loads(capsys.readouterr().out)["group"] == "mine"
    assert main(["run", str(toy_recipe()), "--resume", "--group", "mine"]) == 2


@pytest.mark.slow
def test_seeds_for_real_equal_runs_made_one_by_one(toy_recipe, tmp_path, capsys):
    from tests.training.conftest import outcome

    training = {"num_train_epochs": 1, "seeds": [1, 2], "save_strategy": "no"}
    recipe = toy_recipe(dropout=0.1, training=training)
    assert main(["run", str(recipe)]) == 0
    runs, _ = list_runs(tmp_path / "runs")
    assert [run.recipe["training"]["seed"] for run in runs] == [1, 2]
    assert len({run.group for run in runs} - {None}) == 1
    assert len({run.dataset["fingerprint"] for run in runs}) == 1
    assert outcome(runs[0].directory) != outcome(runs[1].directory)
    alone = [str(recipe), "training.seeds=null", "training.seed=2", "--output-dir", str(tmp_path / "alone")]
    assert main(["run", *alone]) == 0
    [single] = list_runs(tmp_path / "alone")[0]
    assert outcome(single.directory) == outcome(runs[1].directory)
