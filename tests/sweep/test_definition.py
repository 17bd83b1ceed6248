"""The file of a sweep: what it may say, and every problem with its line."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finetune.cli.app import main
from finetune.errors import FinetuneError
from finetune.recipe.shipped import find_sweep, shipped_recipes, shipped_sweeps
from finetune.sweep.account import Entry, front
from finetune.sweep.definition import read_sweep
from finetune.sweep.space import Choices, Parameter, Range, grid, overrides, suggest
from tests.test_structure import HEAVY, loaded_by


def problems_of(path):
    with pytest.raises(FinetuneError) as refused:
        read_sweep(path)
    return [line.removeprefix(f"{path}:") for line in refused.value.message.splitlines()]


def space_of(path):
    return read_sweep(path).space


CASES = {
    "accuracy: 3": "1: accuracy: unknown key; there are recipe, name, objective, space",
    "trails: 3": "1: trails: unknown key; did you mean trials?",
    "sampler: gird": "1: sampler: expected tpe, random, nsga2 or grid, found the text 'gird'; did you mean grid?",
    "trials: many": "1: trials: expected a whole number at least 1 or null, found the text 'many'",
    "recipe: quickstrat": "1: recipe: ",
    "objective: acuracy": "1: objective: acuracy: neither a metric of text-classification nor energy_kwh; "
    "did you mean accuracy?",
    "objective: [accuracy, accuracy]": "1: objective: names the same twice",
    "objective: [a, b, c]": "1: objective: expected one or two names, found a list",
    "seeds: [1, 1]": "1: seeds: names a seed twice",
}  # fmt: skip


@pytest.mark.parametrize("line", CASES)
def test_definition_wrong_keys_are_told_with_their_line(line, tmp_path):
    key = line.partition(":")[0]
    rest = {
        "recipe": "quickstart",
        "objective": "accuracy",
        "space": "{training.weight_decay: [0, 0.1]}",
        "trials": "4",
    }
    lines = [line, *(f"{name}: {value}" for name, value in rest.items() if name != key)]
    path = tmp_path / "s.yaml"
    path.write_text("\n".join(lines))
    assert any(problem.startswith(CASES[line]) for problem in problems_of(path)), problems_of(path)


SPACES = {
    "training.learing_rate: [1]": "not a recipe key; did you mean learning_rate?",
    "model.freeze: [backbon]": "expected none, embeddings, backbone or a whole number at least 1, found the text",
    "training.learning_rate: {low: 1, high: 0.1}": "low 1 must lie below high 0.1",
    "training.learning_rate: {low: 0, high: 0.1, log: true}": "a logarithmic range begins above 0",
    "training.learning_rate: {low: 0.1}": "high is missing",
    "training.learning_rate: {low: a, high: 1}": "expected a number, found the text 'a'",
    "training.learning_rate: {low: 0.1, hihg: 1}": "unknown; did you mean high?",
    "training.learning_rate: {low: -1.0, high: 1.0}": "expected a number above 0",
    "training.seed: [1, 2]": "cannot be varied: write seeds: [1, 2, 3], at the top of the sweep",
    "training: {learning_rate: [1]}": "write the keys of the section dotted",
    "training.weight_decay: [0, 0]": "has 0 twice",
    "training.weight_decay: []": "expected at least one value",
    "training.weight_decay: {values: [0], when: {model.freeze: none}}": "model.freeze is no key of the space above",
    "training.weight_decay: {values: [0], low: 1}": "values goes without low",
}


@pytest.mark.parametrize("line", SPACES)
def test_definition_wrong_spaces_are_told_with_their_line(line, tmp_path):
    path = tmp_path / "s.yaml"
    path.write_text(f"recipe: quickstart\nobjective: accuracy\ntrials: 4\nspace:\n  {line}\n")
    [problem] = [problem for problem in problems_of(path) if problem.startswith("5: space.")]
    assert SPACES[line] in problem


def test_definition_pruning_two_objectives_says_that_optuna_has_none(sweep_file):
    path = sweep_file(objective=["accuracy", "energy_kwh"], pruning="successive_halving")
    [problem] = problems_of(path)
    assert "pruning: Optuna prunes for one objective only" in problem
    assert "needs a metric" in problems_of(sweep_file(objective="energy_kwh", pruning="successive_halving"))[0]
    assert "goes with one seed" in problems_of(sweep_file(seeds=[1, 2], pruning="successive_halving"))[0]


def test_definition_a_grid_needs_what_can_be_counted(sweep_file):
    space = {"training.learning_rate": {"low": 1e-5, "high": 1e-3, "log": True}}
    assert "grid needs lists or steps" in problems_of(sweep_file(space=space))[0]
    assert "trials: missing" in problems_of(sweep_file(space=space, sampler="tpe"))[0]
    stepped = {"training.warmup_steps": {"low": 0.0, "high": 0.2, "step": 0.1}, "training.num_train_epochs": 2}
    assert [params["training.warmup_steps"] for params in grid(space_of(sweep_file(space=stepped)))] == [0.0, 0.1, 0.2]


def test_definition_conditions_leave_keys_out(sweep_file):
    space = {
        "model.freeze": ["none", "backbone"],
        "training.layerwise_lr_decay": {"values": [0.8, 0.9], "when": {"model.freeze": "none"}},
        "peft": [None, {"method": "lora", "r": 8}],
    }
    found = grid(read_sweep(sweep_file(space=space)).space)
    assert len(found) == 6
    assert [params for params in found if params["model.freeze"] == "backbone"] == [
        {"model.freeze": "backbone", "peft": None}, {"model.freeze": "backbone", "peft": '{"method": "lora", "r": 8}'}
    ]  # fmt: skip
    sweep = read_sweep(sweep_file(space=space))
    assert overrides(sweep.space, found[-1])[-1] == 'peft={"method": "lora", "r": 8}'


def test_space_draws_only_what_takes_part():
    class Draws:
        def suggest_categorical(self, name, choices):
            return choices[-1]

        def suggest_int(self, name, low, high, *, step, log):
            return high

        def suggest_float(self, name, low, high, *, step, log):
            return low

    space = (
        Parameter("a", Choices((1, True))), Parameter("b", Range(1, 5), {"a": (1,)}), Parameter("c", Range(0.5, 1.0))
    )  # fmt: skip
    assert suggest(space, Draws()) == {"a": True, "c": 0.5}  # True is not 1
    assert suggest((Parameter("a", Choices((1,))), space[1]), Draws()) == {"a": 1, "b": 5}


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=12))
@settings(max_examples=60, deadline=None)
def test_account_front_is_what_nobody_beats(points):
    entries = [
        Entry(place, place, "complete", {"x": place}, tuple(map(float, point))) for place, point in enumerate(points)
    ]
    found = {entry.number for entry in front(entries, [True, False])}
    for place, (score, kwh) in enumerate(points):
        beaten = any(s >= score and k <= kwh and (s, k) != (score, kwh) for s, k in points)
        assert (place in found) is not beaten


def test_shipped_sweeps_are_found_by_name_are_right_and_name_shipped_recipes():
    assert {"quickstart", "quickstart-pruning"} <= set(shipped_sweeps())
    for name in shipped_sweeps():
        sweep = read_sweep(find_sweep(name))
        assert sweep.recipe in shipped_recipes()
        assert sweep.trials >= 2


def test_sweep_file_comes_before_a_shipped_one_and_a_wrong_name_is_told(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FinetuneError, match="did you mean quickstart"):
        find_sweep("quickstar")
    with pytest.raises(FinetuneError, match=r"mine\.yaml: no such sweep file; shipped with finetune: quickstart"):
        find_sweep("mine.yaml")
    (tmp_path / "quickstart").write_text("recipe: quickstart\n")
    assert find_sweep("quickstart") == Path("quickstart")
    with pytest.raises(FinetuneError, match="no such sweep file"):
        find_sweep(str(tmp_path))


def test_sweep_starts_without_torch(tmp_path):
    heavy = set(HEAVY) - {"numpy"}  # Optuna needs it
    assert not loaded_by("sweep", str(tmp_path / "none.yaml")) & heavy
    wrong = tmp_path / "s.yaml"
    wrong.write_text("recipe: quickstart\n")
    assert not loaded_by("sweep", str(wrong)) & heavy


def test_sweep_verb_prints_and_returns_codes(sweep_file, play, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr("finetune.sweep.start.launch_until_told", play.launch)
    path = sweep_file(objective=["accuracy", "energy_kwh"])
    assert main(["sweep", str(path), "--allow-shared"]) == 0
    out, err = capsys.readouterr()
    assert "search: 4 of 4 trials (4 complete)" in out
    assert "trial 3 (4 of 4): training.learning_rate=0.001 training.weight_decay=0.1" in err
    assert f"next     finetune compare search --output-dir {tmp_path / 'runs'}" in out
    assert main(["list", "--output-dir", str(tmp_path / "runs")]) == 0
    assert "search-003" in capsys.readouterr().out
    assert main(["compare", "search", "--output-dir", str(tmp_path / "runs")]) == 0
    assert main(["sweep", str(tmp_path / "none.yaml")]) == 1
    assert main(["sweep"]) == 2
