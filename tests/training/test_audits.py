"""Runs that put the probes of bias to the model before the first step and after the last."""

import csv
import json

import pytest
import torch

from finetune.audit import probes
from tests import tiny
from tests.audit.test_runs import TERMS, rounded
from tests.training.conftest import read_run
from tests.training.test_adapter_runs import LORA
from tests.training.test_prompted import speaking_gpt2
from tests.training.test_ranks import RAGGED, only, run, weights_of

__all__ = ["speaking_gpt2"]  # a fixture


@pytest.fixture
def pairs(tmp_path):
    """Return a file with minimal pairs."""
    path = tmp_path / "pairs.csv"
    with path.open("w") as file:
        writer = csv.writer(file)
        writer.writerow(["sent_more", "sent_less", "bias_type"])
        for frame in tiny.FRAMES:
            for more, less in zip(tiny.GOOD, tiny.BAD, strict=True):
                writer.writerow([frame.format(more), frame.format(less), frame.split()[0]])
    return path


@pytest.fixture
def all_probes(pairs, tmp_path):
    """Return a probe of each kind."""
    (tmp_path / "terms.csv").write_text(TERMS)
    cases = [
        {"text": f"{word} {frame}", "label": label, "target": frame, "template_id": word}
        for label, words in (("no", tiny.GOOD), ("hateful", tiny.BAD))
        for word in words
        for frame in ("day", "meal", "film")
    ]
    (tmp_path / "cases.jsonl").write_text("".join(json.dumps(case) + "\n" for case in cases))
    return [
        {"probe": "swaps", "language": "en", "terms": str(tmp_path / "terms.csv"), "hateful_label": "bad"},
        {"probe": "groups", "file": str(tmp_path / "cases.jsonl"), "language": "en", "hateful_label": "bad"},
        {"probe": "groups", "column": "label"},
        {"probe": "pairs", "file": str(pairs)},
    ]


def in_two_and_in_one(recipe, finetune, folder):
    """Return the records of a run in two processes and of one in this process alone."""
    done = run(recipe, "training.per_device_train_batch_size=5", f"output_dir={folder / 'two'}", "--json",
               FINETUNE_TIMEOUT_S="60")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("audit: pairs") == 2  # before and after, told by one process
    code, _, err = finetune("run", recipe, "--output-dir", folder / "one")
    assert code == 0, err
    two, one = (read_run(only(folder / name)) for name in ("two", "one"))
    assert json.loads(done.stdout) == two
    return two, one


@pytest.mark.slow
def test_two_processes_find_what_one_finds(toy_recipe, all_probes, finetune, tmp_path):
    recipe = toy_recipe(training=RAGGED, evaluation={"baselines": [], "bias": all_probes})
    two, one = in_two_and_in_one(recipe, finetune, tmp_path)
    assert rounded(two["bias"]) == rounded(one["bias"])
    assert [bool(entry["after"]) for entry in two["bias"]["probes"]] == [True, True, True, False]
    assert two["emissions"]["phases"]["audit"]["duration_s"] > 0


@pytest.mark.slow
def test_two_processes_find_what_one_finds_with_adapters(toy_recipe, speaking_gpt2, pairs, finetune, tmp_path):
    recipe = toy_recipe(
        task="text-generation",
        model={"name_or_path": str(speaking_gpt2)},
        training={**RAGGED, "learning_rate": 1e-2},
        peft={**LORA, "lora_dropout": 0.0},  # each rank draws its own
        evaluation={"baselines": [], "bias": [{"probe": "pairs", "file": str(pairs)}]},
    )
    two, one = in_two_and_in_one(recipe, finetune, tmp_path)
    assert rounded(two["bias"]) == rounded(one["bias"])
    [entry] = two["bias"]["probes"]
    assert entry["before"]["findings"] != entry["after"]["findings"]


def test_likelihoods_before_and_after_are_of_one_precision(toy_recipe, speaking_gpt2, pairs, finetune, monkeypatch):
    scores, score = [], probes.pair_scores
    monkeypatch.setattr(probes, "pair_scores", lambda *asked: scores.append(score(*asked)) or scores[-1])
    recipe = toy_recipe(
        task="text-generation",
        model={"name_or_path": str(speaking_gpt2)},
        training={"max_steps": 1, "learning_rate": 1e-12, "mixed_precision": "bf16"},
        evaluation={"baselines": [], "bias": [{"probe": "pairs", "file": str(pairs)}]},
    )
    code, _, err = finetune("run", recipe)
    assert code == 0, err
    before, after = map(torch.tensor, scores)
    assert torch.allclose(before, after, rtol=0, atol=1e-3)


@pytest.mark.slow
def test_probes_change_nothing_of_the_training(toy_recipe, pairs, finetune, tmp_path):
    for name, bias in (("probed", [{"probe": "pairs", "file": str(pairs)}]), ("plain", None)):
        recipe = toy_recipe(dropout=0.1, training={"max_steps": 3}, evaluation={"baselines": [], "bias": bias})
        assert finetune("run", recipe, "--output-dir", tmp_path / name)[0] == 0
    first, second = (weights_of(only(tmp_path / name)) for name in ("probed", "plain"))
    assert all(torch.equal(first[name], second[name]) for name in first)
