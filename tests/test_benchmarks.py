"""The benchmarks import, read their command line, and render their tables; nothing is measured here."""

import functools
import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import banking77, ceiling, energy, features, pairs, publishing, startup, training, training_report
from benchmarks.__main__ import parse
from benchmarks.banking77 import Outcome, Settings
from benchmarks.machine import Timing, machine_words, timed, timed_until
from benchmarks.script_parts import StepClock, around_steps
from benchmarks.training_report import Outcome as Trained
from benchmarks.training_report import Rate


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
    assert parse(["training", "--repeats", "2", "--systems", "finetune", "pad128"]).systems == ["finetune", "pad128"]
    with pytest.raises(SystemExit):
        parse(["no-such-benchmark"])


def test_benchmarks_banking77_without_data_is_skipped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    banking77.run(tmp_path)
    assert "skipped: train.jsonl" in capsys.readouterr().out
    banking77.run(None)
    assert "skipped: --data names" in capsys.readouterr().out


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


def test_benchmarks_startup_times_the_quickstart_where_its_checkpoint_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(startup, "find_spec", lambda name: object())
    last = startup.commands(tmp_path / "recipe.yaml")[-1]
    assert (last.label, last.goal_s) == ("finetune run quickstart, to its first step", 10.0)
    monkeypatch.setattr(startup, "find_spec", lambda name: None)
    assert last not in startup.commands(tmp_path / "recipe.yaml")


def test_benchmarks_startup_stops_a_run_at_the_first_line_of_its_log(tmp_path: Path) -> None:
    writes = (
        "import pathlib, time; folder = pathlib.Path(r'{}') / 'one'; folder.mkdir(parents=True); "
        "(folder / 'log.jsonl').write_text('step 1'); time.sleep(60)"
    )
    command = startup.Command("a run", ("-c", writes.format(tmp_path / "runs")), runs=tmp_path / "runs")
    assert startup.time_once(command, tmp_path).wall_s < 60
    assert not (tmp_path / "runs").exists()


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
    for name in ("startup", "training", "training-gpu", "features", "banking77"):
        assert "fresh table" in publishing.replace_between_markers(text, name, "fresh table")


def test_benchmarks_timed_measures_and_refuses_another_exit_code() -> None:
    timing = timed([sys.executable, "-c", "pass"], {})
    assert timing.wall_s > 0
    assert 0 <= timing.others_share <= 1
    with pytest.raises(RuntimeError, match="returned 3"):
        timed([sys.executable, "-c", "raise SystemExit(3)"], {})
    assert "cores" in machine_words()


def test_benchmarks_timed_until_says_when_a_command_ends_too_early() -> None:
    with pytest.raises(RuntimeError, match="too early:\nno such"):
        timed_until([sys.executable, "-c", "print('no such')"], {}, lambda: False)


def _trained(
    system: str, repeat: int, training_s: float, wrong_rows: str = "1", joules: float | None = None
) -> Trained:
    return Trained(
        system, repeat, 100, 4, training_s, 2 * training_s, 0.1, 20.0, 2**30, None, joules, 0.9, 10, wrong_rows
    )


def _heading(name: str = "training") -> dict[str, object]:
    return {
        "benchmark": name,
        "date": "2026-01-02",
        "machine": "2 cores",
        "versions": {"python": "3.11"},
        "settings": {
            "checkpoint": "a model", "epochs": 1, "mixed_precision": "bf16", "threads": 2, "learning_rate": 2e-4,
            "batch_size": 32,
        },
        "data": {
            "name": "texts", "train_rows": 100, "test_rows": 10, "classes": 3, "tokens_per_row": 20.0,
            "longest_row_tokens": 40, "flops_per_row": 1e9,
        },
        "energy": "not measured (no energy counter: cpu modelled)",
    }  # fmt: skip


def _training_result(outcomes: list[Trained], rates: list[Rate], name: str = "training") -> dict[str, object]:
    heading = _heading(name)
    return json.loads(json.dumps({**heading, "summary": training_report.summary(heading, outcomes, rates)}))


def test_benchmarks_training_ratios_are_of_neighbours_and_goals_are_judged_by_the_figures() -> None:
    # Repeat 2 met a busy machine: all were half as fast, the ratio stays.
    outcomes = [
        _trained("finetune", 1, 1.0), _trained("trainer", 1, 4.0), _trained("trainer-tuned", 1, 1.25),
        _trained("finetune", 2, 2.0, "1 2"), _trained("trainer", 2, 8.0), _trained("trainer-tuned", 2, 2.5),
        _trained("finetune", 3, 1.0), _trained("pad128", 1, 10.0),
    ]  # fmt: skip
    rates = [Rate("before", 1, 150e9, 160e9), Rate("after", 1, 250e9, 260e9)]
    result = _training_result(outcomes, rates)
    found = result["summary"]
    assert found["finetune_against"]["trainer"] == pytest.approx(4.0)
    assert found["finetune_against"]["trainer-tuned"] == pytest.approx(1.25)
    assert found["ceiling_rows_per_s"] == pytest.approx(200)
    assert found["finetune_against"]["ceiling"] == pytest.approx(0.5)
    assert {goal["against"]: goal["reached"] for goal in found["goals"]} == {
        "trainer": True, "trainer-tuned": False, "ceiling": True,
    }  # fmt: skip
    assert found["systems"]["finetune"]["tokens_per_s"] == pytest.approx(2000)
    assert found["accuracy_difference"]["repeats"] == 2
    text = training_report.describe(result)
    assert "at least 3.5 ×, found 4.00 ×: reached" in text
    assert "at least 1.5 ×, found 1.25 ×: not reached" in text
    assert "| Trainer, padded to 128 | 1 | 10.0 | 200 | 10.00 × | 200.0 | 10.00 × | not measured | 1.00 |" in text
    assert "test accuracy: -5.00 points over 2 seeds" in text


def test_benchmarks_training_describes_what_is_there_so_far() -> None:
    nothing = training_report.describe(_training_result([], []))
    assert "reached" not in nothing
    assert "points" not in nothing
    alone = training_report.describe(_training_result([_trained("trainer", 1, 4.0, joules=0.5)], []))
    assert "| Trainer, its defaults | 1 | 25.0 | 500 |  | 80.0 |  | 0.50 |" in alone


def test_benchmarks_training_on_a_gpu_has_its_own_goal() -> None:
    outcomes = [_trained("finetune", 1, 1.0), _trained("trainer-tuned", 1, 0.9)]
    [goal] = _training_result(outcomes, [], "training-gpu")["summary"]["goals"]
    assert (goal["against"], goal["reached"]) == ("trainer-tuned", False)


def test_benchmarks_training_sentence_comes_from_the_result_alone() -> None:
    assert training_report.speed_words({}) == ""
    assert training_report.speed_words(_training_result([_trained("finetune", 1, 1.0)], [])) == ""
    outcomes = [_trained("finetune", 1, 1.0), _trained("trainer", 1, 4.0)]
    words = training_report.speed_words(_training_result(outcomes, [Rate("before", 1, 400e9, 400e9)]))
    assert "100 training rows/s, 4.00 × Trainer, its defaults, 25 % of what its matrix products allow." in words


def test_benchmarks_training_turns_alternate_between_two_ceilings() -> None:
    assert training.turns(("a", "b"), 2, {("a", 1), ("before", 2)}) == [
        ("before", 1), ("b", 1), ("after", 1), ("a", 2), ("b", 2), ("after", 2),
    ]  # fmt: skip


def test_benchmarks_training_repeats_small_data_and_cuts_large_data(tmp_path: Path) -> None:
    epochs, found = training.prepare_data(training.Options(rows=1500), tmp_path / "shipped")
    assert (epochs, found["train_rows"]) == (2, 640)
    assert "the shipped sample data" in found["name"]
    epochs, found = training.prepare_data(
        training.Options(data=training.SAMPLE_DATA, rows=90, epochs=3), tmp_path / "cut"
    )
    assert (epochs, found["train_rows"]) == (3, 30)
    with pytest.raises(SystemExit, match=r"has no train\.jsonl"):
        training.prepare_data(training.Options(data=tmp_path), tmp_path / "nothing")


def test_benchmarks_training_leaves_out_rows_whose_label_is_not_trained(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    rows = {"train": ["a", "a"], "validation": ["a", "b"], "test": ["b", "a", "b"]}
    for name, labels in rows.items():
        lines = [json.dumps({"text": "words", "label": label}) + "\n" for label in labels]
        (source / f"{name}.jsonl").write_text("".join(lines))
    _, found = training.prepare_data(training.Options(data=source, rows=2), tmp_path / "data")
    assert (found["train_rows"], found["test_rows"]) == (2, 1)


def test_benchmarks_training_recipe_and_words_share_the_settings(tmp_path: Path, checkpoints: object) -> None:
    from benchmarks import accelerate_script, trainer_script
    from finetune.recipe.load import load_recipe

    _, _ = training.prepare_data(training.Options(rows=32), tmp_path / "data")
    settings = training.Settings("a model", 2, "bf16", 1)
    place = training.Workplace(tmp_path, tmp_path / "data", checkpoints("bert"), settings)
    path = tmp_path / "training.yaml"
    path.write_text(training.recipe_text(7, place))
    recipe = load_recipe(path).recipe.training
    assert (recipe.learning_rate, recipe.seed, recipe.per_device_train_batch_size) == (2e-4, 7, 32)
    assert (recipe.weight_decay, recipe.warmup_steps, recipe.load_best_model_at_end) == (0.0, 0, False)
    for system, (module, *_) in training.SYSTEMS.items():
        words = training.script_words(system, 7, place, tmp_path)
        if module != "benchmarks.finetune_script":
            script = trainer_script if module.endswith("trainer_script") else accelerate_script
            options = script.parse(words)
            tuned = system in ("trainer-tuned", "accelerate-bf16")
            assert (options.learning_rate, options.seed, options.batch_size) == (2e-4, 7, 32)
            assert options.mixed_precision == ("bf16" if tuned else "no")
    found = training.measure_rows(place)
    assert found["classes"] == 8
    assert found["flops_per_row"] > 0


def test_benchmarks_trainer_defaults_are_those_of_transformers(tmp_path: Path) -> None:
    from transformers import TrainingArguments

    from benchmarks import trainer_script

    words = ["--model=m", "--data=d", "--result=r", "--seed=7", "--learning-rate=2e-4", "--flags=defaults"]
    ours = trainer_script.training_arguments(trainer_script.parse(words), str(tmp_path)).to_dict()
    usual = TrainingArguments(output_dir=str(tmp_path)).to_dict()
    changed = {key for key, value in usual.items() if ours[key] != value}
    assert changed <= {
        "seed", "learning_rate", "num_train_epochs", "per_device_train_batch_size", "per_device_eval_batch_size",
        "use_cpu", "logging_dir",
    }  # fmt: skip
    tuned = trainer_script.parse([*words, "--flags=tuned", "--mixed-precision=no"])
    assert trainer_script.training_arguments(tuned, str(tmp_path)).train_sampling_strategy == "group_by_length"


def test_benchmarks_the_scripts_import_nothing_of_finetune() -> None:
    for name in ("trainer_script", "accelerate_script", "script_parts", "ceiling"):
        code = f"import sys, benchmarks.{name}; print(any(m.split('.')[0] == 'finetune' for m in sys.modules))"
        text = (publishing.FOLDER / f"{name}.py").read_text()
        assert "import finetune" not in text
        assert "from finetune" not in text
        if name in ("script_parts", "ceiling"):
            done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
            assert done.stdout.strip() == "False"


def test_benchmarks_ceiling_counts_the_arithmetic_by_hand() -> None:
    shape = ceiling.Shape(layers=2, hidden=3, intermediate=5)
    weights = 2 * (4 * 3 * 3 + 2 * 3 * 5)
    assert sum(a * b for a, b in ceiling.linear_layers(shape)) == weights
    # Rows of 2 and 4 tokens: mean 3, mean square 10.
    expected = 6 * weights * 3 + 12 * 2 * 10 * 3 + 6 * (3 * 3 + 3 * 7)
    assert ceiling.flops_per_row(shape, [2, 4], 7) == expected
    assert ceiling.rows_per_second([], 1.0) is None
    assert ceiling.rows_per_second([{"flops_per_s": 6.0}, {"flops_per_s": 10.0}], 2.0) == 4.0


def test_benchmarks_ceiling_agrees_with_torchs_own_count(checkpoints: object) -> None:
    import torch
    from torch.utils.flop_counter import FlopCounterMode
    from transformers import AutoModelForSequenceClassification

    folder = checkpoints("bert")
    model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=3, attn_implementation="eager")
    words = torch.ones(4, 10, dtype=torch.long)
    with FlopCounterMode(display=False) as counter:
        model(input_ids=words, attention_mask=torch.ones_like(words)).logits.sum().backward()
    expected = ceiling.flops_per_row(ceiling.read_shape(folder), [10] * 4, 3)
    assert counter.get_total_flops() / 4 == pytest.approx(expected, rel=1e-6)


def test_benchmarks_ceiling_measures_a_rate() -> None:
    found = ceiling.measure(ceiling.Shape(1, 8, 16), tokens=4, precision="bf16", seconds=0.0)
    assert found["passes"] == 3
    assert 0 < found["flops_per_s"] <= found["best_flops_per_s"]


def test_benchmarks_energy_between_two_times_is_interpolated() -> None:
    samples = [
        (10.0, {"cpu": 0, "gpu": 0}),
        (12.0, {"cpu": 2_000_000, "gpu": 2_000_000}),
        (13.0, {"cpu": 8_000_000, "gpu": 2_000_000}),
    ]
    assert energy.joules_between(samples, 11.0, 12.5) == pytest.approx(2.0 + 3.0)
    assert energy.joules_between(samples, 10.0, 13.0) == pytest.approx(10.0)
    assert energy.joules_between(samples, 9.0, 12.0) is None
    assert energy.joules_between([], 9.0, 12.0) is None


def test_benchmarks_energy_says_what_is_measured() -> None:
    assert energy.Counters({"cpu": "modelled", "gpu": "absent"}).words() == (
        "not measured (no energy counter: cpu modelled, gpu absent)"
    )
    assert energy.Counters({"cpu": "measured", "ram": "assumed"}).words() == "measured: cpu; not counted: ram assumed"


def test_benchmarks_step_clock_leaves_pauses_out(monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks import script_parts

    now = iter([(0.0, 0.0, 0.0), (2.0, 1.0, 2.0), (10.0, 9.0, 20.0), (13.0, 11.0, 24.0)])
    monkeypatch.setattr(script_parts, "_clocks", lambda: next(now))
    clock = StepClock()
    for _ in range(2):
        clock.mark()
        clock.lap()
    found = clock.result()
    assert (found["training_s"], found["training_cpu_s"]) == (5.0, 3.0)
    assert 0 < found["training_others_share"] <= 3 / 5
    assert found["peak_memory_bytes"] > 2**20


def test_benchmarks_around_steps_closes_the_steps_it_watches() -> None:
    closed = []

    def steps(count: int) -> object:
        try:
            yield from range(count)
        finally:
            closed.append(count)

    clock = StepClock()
    assert list(around_steps(steps, clock)(3)) == [0, 1, 2]
    stopped = around_steps(steps, clock)(5)
    assert next(stopped) == 0
    stopped.close()
    assert closed == [3, 5]


def test_benchmarks_finetune_script_times_the_steps_of_the_command_line(tmp_path: Path, toy_recipe: object) -> None:
    from benchmarks import finetune_script
    from finetune.training import loop

    recipe = toy_recipe(evaluation={"baselines": []}, training={"num_train_epochs": 1, "eval_strategy": "no"})
    steps = loop.optimizer_steps
    assert finetune_script.run(tmp_path / "result.json", ["run", str(recipe), "--offline"]) == 0
    assert loop.optimizer_steps is steps
    measured = json.loads((tmp_path / "result.json").read_text())
    record = training.read_record(tmp_path / "runs")
    assert (record["steps"], record["rows"]) == (8, 64)
    assert measured["training_s"] > 0
    assert measured["ended"] - measured["began"] >= measured["training_s"] * 0.99


@pytest.mark.slow
def test_benchmarks_training_runs_every_system_and_resumes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, checkpoints: object
) -> None:
    readme = tmp_path / "README.md"
    readme.write_text("<!-- training: begin -->\n<!-- training: end -->\n")
    monkeypatch.setattr(publishing, "README", readme)
    monkeypatch.setattr(publishing, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(training, "find_model", lambda size, folder: (checkpoints("bert"), "a tiny model"))
    monkeypatch.setattr(training, "_TEST_ROWS", 16)
    monkeypatch.setattr(training, "Settings", functools.partial(training.Settings, max_length=64))
    every = training.Options(rows=32, repeats=1, threads=1, systems=tuple(training.SYSTEMS))
    training.run(every)
    published = publishing.read_published("training")
    assert {run["system"] for run in published["runs"]} == set(training.SYSTEMS)
    assert {(run["rows"], run["steps"]) for run in published["runs"]} == {(32, 1)}
    assert all(run["training_s"] > 0 and run["training_cpu_s"] > 0 for run in published["runs"])
    assert "Trainer, its defaults" in readme.read_text()
    training.run(training.Options(**{**every.__dict__, "resume": True}))
    assert publishing.read_published("training")["runs"] == published["runs"]


@pytest.mark.slow
def test_benchmarks_trainer_script_reads_its_command_line() -> None:
    module = "benchmarks.trainer_script"
    done = subprocess.run([sys.executable, "-m", module, "--help"], capture_output=True, text=True, check=True)
    assert "--mixed-precision" in done.stdout
