"""The benchmarks import, read their command line, and render their tables; nothing is measured here."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import banking77, features, pairs, publishing, startup
from benchmarks.__main__ import parse
from benchmarks.banking77 import Outcome, Settings
from benchmarks.machine import Timing, machine_words, timed


def _outcome(system: str, seed: int, wrong_rows: str, training_s: float = 10.0) -> Outcome:
    wrong = len(wrong_rows.split())
    return Outcome(system, seed, 0.9, 1 - wrong / 100, 100, 12, training_s, 38.4, 20.0, 30.0, 0.25, wrong_rows)


def _result(outcomes: list[Outcome]) -> dict[str, object]:
    return {
        "date": "2026-01-02",
        "machine": "2 cores",
        "threads": 2,
        "versions": {"python": "3.11"},
        "settings": {"learning_rate": 0.1},
        "tfidf": {"C": 10.0, "validation_accuracy": 0.89, "test_accuracy": 0.88},
        "runs": [outcome.__dict__ for outcome in outcomes],
    }


def test_benchmarks_parse_names_seeds_and_data() -> None:
    options = parse(["banking77", "--data", "somewhere", "--seeds", "4", "5"])
    assert (options.benchmark, options.data, options.seeds) == ("banking77", Path("somewhere"), [4, 5])
    assert not options.resume
    assert parse([]).benchmark is None
    with pytest.raises(SystemExit):
        parse(["no-such-benchmark"])


def test_benchmarks_banking77_without_data_is_skipped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    banking77.run(tmp_path)
    assert "skipped: train.jsonl" in capsys.readouterr().out


def test_benchmarks_turns_alternate_and_leave_out_what_is_done() -> None:
    assert banking77.turns([1, 2], set()) == [("finetune", 1), ("Trainer", 1), ("Trainer", 2), ("finetune", 2)]
    assert banking77.turns([1, 2], {("finetune", 1), ("Trainer", 2)}) == [("Trainer", 1), ("finetune", 2)]


def test_benchmarks_banking77_stores_each_run_and_resumes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    for name in ("train", "validation", "test"):
        (data / f"{name}.jsonl").write_text(
            '{"text": "card lost", "label": "b"}\n{"text": "rate high", "label": "c"}\n'
        )
    readme = tmp_path / "README.md"
    readme.write_text("<!-- banking77: begin -->\n<!-- banking77: end -->\n")
    monkeypatch.setattr(publishing, "README", readme)
    monkeypatch.setattr(publishing, "RESULTS", tmp_path / "results")
    started: list[tuple[str, int]] = []

    def fake(system: str, wrong_rows: str) -> object:
        def run(data: Path, settings: Settings, seed: int, folder: Path) -> Outcome:
            started.append((system, seed))
            if (system, seed) == ("finetune", 2) and started.count(("finetune", 2)) == 1:
                raise RuntimeError("killed")
            return _outcome(system, seed, wrong_rows)

        return run

    monkeypatch.setattr(banking77, "_SYSTEMS", {"finetune": fake("finetune", "1"), "Trainer": fake("Trainer", "1 2")})
    with pytest.raises(RuntimeError, match="killed"):
        banking77.run(data, [1, 2])
    assert len(publishing.read_published("banking77")["runs"]) == 3
    banking77.run(data, [1, 2], resume=True)
    assert started == [("finetune", 1), ("Trainer", 1), ("Trainer", 2), ("finetune", 2), ("finetune", 2)]
    published = publishing.read_published("banking77")
    assert published["difference"]["mean"] == pytest.approx(0.01)
    assert capsys.readouterr().out.strip() in readme.read_text()


def test_benchmarks_recipe_loads_with_the_settings(tmp_path: Path) -> None:
    from finetune.recipe.load import load_recipe

    for name in ("train", "validation", "test"):
        (tmp_path / f"{name}.jsonl").write_text('{"text": "a", "label": "b"}\n')
    path = tmp_path / "banking77.yaml"
    path.write_text(banking77.recipe_text(tmp_path, Settings(learning_rate=2e-4), 7))
    training = load_recipe(path).recipe.training
    assert (training.learning_rate, training.seed, training.train_sampling_strategy) == (2e-4, 7, "group_by_length")
    assert (training.lr_scheduler_type, training.max_grad_norm, training.optim) == ("linear", 1.0, "adamw_torch_fused")


def test_benchmarks_paired_difference_by_hand() -> None:
    found = pairs.paired_difference([({1, 2}, {1, 2, 3}), ({1}, {4})], 4)
    assert found["by_seed"] == [0.25, 0.0]
    assert found["mean"] == 0.125
    half = 12.706 * 0.125  # t of one degree of freedom times s/√2
    assert found["high_seeds_only"] == pytest.approx(0.125 + half, abs=1e-3)
    assert found["low"] < found["low_seeds_only"]
    assert pairs.paired_difference([({1}, {2, 3})], 10)["low"] is None


def test_benchmarks_banking77_table_holds_every_run_and_the_verdict() -> None:
    outcomes = [_outcome("finetune", 1, "1 2"), _outcome("Trainer", 1, "1 2 3", 15.0), _outcome("finetune", 2, "5")]
    text = banking77.describe(json.loads(json.dumps(_result(outcomes))))
    assert "| finetune | 1 | 0.9800 |" in text
    assert "+1.00 points over 1 seed;" in text
    assert "training 1.50;" in text
    assert "| **finetune** | mean; times median | 0.9850 |" in text
    assert "TF-IDF + logistic regression, C = 10 |  | 0.8800 | 0.8900 |" in text


def test_benchmarks_startup_table_shows_medians_beside_goals(tmp_path: Path) -> None:
    wanted = startup.commands(tmp_path / "recipe.yaml")
    timings = {
        command: [Timing(9.0, 9.0, 0.0), *[Timing(w, w / 2, 0.1) for w in (0.1, 0.2, 0.6)]] for command in wanted
    }
    text = startup.describe(startup.summary(timings))
    assert "| `finetune --help` | 0.20 | 0.10 | 0.10 | 0.3 |" in text
    assert "| `python -c pass` | 0.20 | 0.10 | 0.10 |  |" in text
    assert "9.00" not in text


def test_benchmarks_startup_recipe_has_three_mistakes(tmp_path: Path) -> None:
    from finetune.recipe.load import check_recipe

    path = tmp_path / "recipe.yaml"
    path.write_text(startup._THREE_MISTAKES)
    assert len(check_recipe(path).problems) == 3


def test_benchmarks_features_recipe_loads_with_a_frozen_backbone(tmp_path: Path) -> None:
    from finetune.recipe.load import load_recipe

    for name in ("train", "validation", "test"):
        (tmp_path / f"{name}.jsonl").write_text('{"text": "a", "label": "b"}\n')
    for data in (None, tmp_path):
        path = tmp_path / "features.json"
        path.write_text(features.recipe_text(data, 7, tmp_path))
        recipe = load_recipe(path).recipe
        assert (recipe.model.freeze, recipe.training.num_train_epochs) == ("backbone", 7)


def test_benchmarks_features_table_shows_medians_and_ratios(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    readme = tmp_path / "README.md"
    readme.write_text("<!-- features: begin -->\n<!-- features: end -->\n")
    monkeypatch.setattr(publishing, "README", readme)
    monkeypatch.setattr(publishing, "RESULTS", tmp_path / "results")
    turns: list[tuple[str, int]] = []

    def fake(way: str, epochs: int, recipe: Path) -> features.Outcome:
        turns.append((way, epochs))
        seconds = 10.0 if way == "kept" else 10.0 * epochs
        return features.Outcome(way, epochs, 640, seconds, seconds, seconds + 20, 0.1, 1.5, 0.75)

    monkeypatch.setattr(features, "_measured", fake)
    features.run()
    assert turns == [(way, epochs) for epochs in (3, 10) for way in ("kept", "anew", "anew", "kept")]
    text = readme.read_text()
    assert "| anew, 3 epochs | 30.0 | 30.0 | 50.0 | 1.5000 | 0.7500 |" in text
    assert "| **anew ÷ kept, 3 epochs** | 3.00 | 3.00 | 1.67 | goal 2.5 |  |" in text
    assert "| **anew ÷ kept, 10 epochs** | 10.00 | 10.00 | 4.00 | goal 7 |  |" in text
    assert "640 training rows of shop_messages" in text
    assert capsys.readouterr().out.strip() in text


def test_benchmarks_replace_between_markers() -> None:
    text = "a\n<!-- x: begin -->\nold\n<!-- x: end -->\nb\n"
    assert publishing.replace_between_markers(text, "x", "new") == text.replace("old", "new")
    with pytest.raises(ValueError, match="y: begin"):
        publishing.replace_between_markers(text, "y", "new")


def test_benchmarks_readme_has_the_markers() -> None:
    text = publishing.README.read_text(encoding="utf-8")
    for name in ("startup", "banking77", "features"):
        assert "fresh table" in publishing.replace_between_markers(text, name, "fresh table")


def test_benchmarks_timed_measures_and_refuses_another_exit_code() -> None:
    timing = timed([sys.executable, "-c", "pass"], {})
    assert timing.wall_s > 0
    assert 0 <= timing.others_share <= 1
    with pytest.raises(RuntimeError, match="returned 3"):
        timed([sys.executable, "-c", "raise SystemExit(3)"], {})
    assert "cores" in machine_words()


@pytest.mark.slow
def test_benchmarks_trainer_script_reads_its_command_line() -> None:
    script = publishing.FOLDER / "trainer_script.py"
    done = subprocess.run([sys.executable, str(script), "--help"], capture_output=True, text=True, check=True)
    assert "--mixed-precision" in done.stdout
