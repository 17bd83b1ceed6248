import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from finetune.cli.app import main
from finetune.estimate.ask import Answer
from tests.cli.golden import assert_golden
from tests.estimate.conftest import emissions, found, measured

HEAVY = {"torch", "transformers", "datasets", "accelerate", "codecarbon", "evaluate", "numpy", "pyarrow"}


@pytest.fixture
def answered(monkeypatch):
    """Return a function that lets the probe give an answer at once."""
    monkeypatch.setattr("finetune.estimate.estimate.free_ram", lambda: 8_000_000_000)

    def answer(found=found(), measured=measured(), note=None):  # noqa: B008
        def ask(recipe, measure, country, region):
            return Answer(found, measured if measure else None, note)

        monkeypatch.setattr("finetune.estimate.estimate.ask", ask)

    answer()
    return answer


@pytest.fixture
def estimate(monkeypatch, capsys, tmp_path):
    """Return a function that estimates the shipped quickstart from an empty folder: (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        code = main(["estimate", "quickstart", *arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def test_estimate_golden(answered, estimate):
    code, out, _ = estimate("--country", "BRA", "training.early_stopping_patience=2")
    assert code == 0
    assert_golden("estimate_probe.txt", out)


def test_estimate_without_a_probe_golden(answered, estimate):
    code, out, _ = estimate("--no-probe")
    assert code == 0
    assert_golden("estimate_assumed.txt", out)


def test_estimate_json_holds_the_contract(answered, estimate):
    code, out, err = estimate("--json")
    assert code == 0
    report = json.loads(out)
    assert "trying the recipe" in err
    assert set(report) == {
        "name", "task", "basis", "based_on", "energy_kwh", "energy_kwh_low", "energy_kwh_high", "emissions_g",
        "emissions_g_low", "emissions_g_high", "duration_s", "forecast", "complete", "carbon_intensity", "pue",
        "components", "phases", "budget", "grids", "model", "dataset", "training", "memory", "disk", "probe", "notes",
        "next",
    }  # fmt: skip
    assert report["basis"] == "probe"
    # 1,000 tokens at 3.6 J, 800 at 1.2 J, 10 J to save, 370 + 36 J to load, 36 J of warm-up.
    joules = 3600 + 800 * 1.2 + 10 + 360 + 36 + 36
    assert report["energy_kwh"] == pytest.approx(joules / 3.6e6)
    assert sum(phase["energy_kwh"] for phase in report["phases"].values()) == pytest.approx(report["energy_kwh"])
    ranges = report["forecast"]
    assert report["energy_kwh_low"] < ranges["energy_kwh_low"] < report["energy_kwh"]
    assert report["energy_kwh"] < ranges["energy_kwh_high"] < report["energy_kwh_high"]
    assert report["probe"] == {"energy_kwh": 0.002, "duration_s": 100.0, "steps": 40}


def test_estimate_falls_back_with_a_note_when_the_probe_takes_too_long(answered, estimate):
    answered(measured=None, note="the probe was not done within 60 s: a step takes long on this machine")
    code, out, _ = estimate("--json")
    report = json.loads(out)
    assert (code, report["basis"]) == (0, "assumed")
    assert report["notes"][0].startswith("the probe was not done within 60 s")
    assert report["notes"][1].startswith("no past run compares")
    assert report["memory"]["known"] == "estimated"


def test_estimate_says_nothing_of_energy_that_cannot_be_measured(answered, estimate):
    silent = emissions(energy_kwh=None, energy_kwh_low=None, energy_kwh_high=None, complete=False)
    answered(found(emissions=silent), measured(emissions=silent))
    code, out, _ = estimate()
    assert code == 0
    assert "energy  not measured" in out
    assert "CO2e    not measured" in out
    assert "time    " in out


def test_estimate_repeats_the_settings_in_the_next_command(answered, estimate):
    _, out, _ = estimate("training.num_train_epochs=2", "tags=[a b]", "--country", "FRA", "--output-dir", "other")
    assert out.splitlines()[-1] == (
        "next    finetune run quickstart training.num_train_epochs=2 'tags=[a b]' --country FRA --output-dir other"
    )


def test_estimate_says_who_was_measured_with_the_probe(answered, estimate):
    answered(found(), measured(emissions=emissions(shared_with=["sst2-1", "sst2-2"])))
    _, out, _ = estimate()
    assert "note: the probe was not alone on the machine: sst2-1 and sst2-2 ran beside it" in out


def test_estimate_warns_of_memory_that_is_too_small(answered, estimate, monkeypatch):
    monkeypatch.setattr("finetune.estimate.estimate.free_ram", lambda: 100_000_000)
    _, out, _ = estimate()
    assert "note: the memory may be too small" in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["training.learing_rate=1"], "did you mean learning_rate"),
        (["--country", "XXX"], "expected an ISO 3166 alpha-3 code"),
    ],
    ids=["recipe", "place"],
)
def test_estimate_refuses_what_a_run_would_before_anything_is_started(arguments, words, estimate, monkeypatch):
    monkeypatch.setattr("finetune.estimate.ask.subprocess.Popen", None)
    code, out, err = estimate(*arguments)
    assert (code, out) == (1, "")
    assert words in err


def light_estimate(*arguments, **environment):
    """Run the verb in a process of its own; return its JSON and the heavy libraries that this process had."""
    code = (
        "import sys\n"
        "from finetune.cli.app import main\n"
        f"code = main(['estimate', '--json', '--offline', *{[str(word) for word in arguments]!r}])\n"
        f"print(sorted({HEAVY!r} & set(sys.modules)), file=sys.stderr)\n"
        "sys.exit(code)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env={**os.environ, **environment}
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), done.stderr.strip().splitlines()[-1]


def test_estimate_leaves_torch_to_its_probe_and_no_run_behind(toy_recipe, tmp_path):
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    report, heavy = light_estimate(toy_recipe(), "--no-probe", TMPDIR=str(temporary))
    assert heavy == "[]"
    assert report["name"] == "toy"
    assert report["phases"]["train"]["duration_s"] > 0
    assert not (tmp_path / "runs").exists()
    assert list(temporary.iterdir()) == []


def test_estimate_shows_an_error_of_the_probe_as_it_is(toy_recipe, capsys):
    code = main(["estimate", str(toy_recipe()), "--offline", "dataset.columns.text=txet"])
    captured = capsys.readouterr()
    assert (code, captured.out) == (1, "")
    assert "txet" in captured.err
    assert "Traceback" not in captured.err


@pytest.mark.slow
def test_estimate_covers_the_run_that_follows(toy_recipe, tmp_path):
    recipe = toy_recipe(training={"num_train_epochs": 200})
    report, _ = light_estimate(recipe)
    assert report["basis"] == "probe"
    assert not (tmp_path / "runs").exists()
    assert main(["run", str(recipe), "training.save_strategy=no", "training.eval_strategy=no"]) == 0
    [path] = Path(tmp_path / "runs").glob("*/run.json")
    train = json.loads(path.read_text())["emissions"]["phases"]["train"]
    # Other programs may slow down either; a wrong count of tokens or a wrong unit is off by far more.
    assert report["phases"]["train"]["energy_kwh"] == pytest.approx(train["energy_kwh"], rel=0.75)
