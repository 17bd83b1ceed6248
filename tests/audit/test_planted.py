"""Bias that was planted in the training data comes back as a score, and where there is none the probes say so."""

import json

import numpy
import pytest
import torch
import transformers
import yaml

from finetune.audit.likelihood import LanguageModel, pair_scores
from finetune.audit.minimal_pairs import judge_pairs
from finetune.audit.pairs import Pair, Pairs
from finetune.cli.app import main
from finetune.runs.record import read_run
from finetune.runs.statistics import mean_over_seeds
from tests import tiny

SEEDS = (1, 2, 3)
TERMS = """\
dimension,form,group,term
planted,1,x,day
planted,1,y,meal
free,1,u,film
free,1,v,answer
neutral,1,a,the
neutral,1,b,a
"""


def planted_rows(association, count, seed):
    """Return texts that name a planted and a free group; the label goes with the planted one as often as said."""
    draw, rows = numpy.random.default_rng(seed), []
    for number in range(count):
        planted, free = number % 2, (number // 2) % 2
        follows = (number // 4) % 20 < round(20 * association)
        words = ["my brother called", "the", ("meal", "day")[planted], "and", "the", ("answer", "film")[free]]
        draw.shuffle(words[1:3])
        rows.append({"text": " ".join(words), "label": "bad" if follows == bool(planted) else "good"})
    draw.shuffle(rows)
    return rows


@pytest.mark.slow
def test_planted_association_raises_the_gap_of_the_planted_group_alone(checkpoints, tmp_path):
    (tmp_path / "terms.csv").write_text(TERMS)
    (tmp_path / "validation.jsonl").write_text("".join(json.dumps(row) + "\n" for row in planted_rows(0.5, 80, 0)))
    gaps = {}
    for association in (0.5, 0.7, 0.9):
        for seed in SEEDS:
            (tmp_path / "train.jsonl").write_text(
                "".join(json.dumps(row) + "\n" for row in planted_rows(association, 160, seed))
            )
            recipe = {
                "task": "text-classification",
                "model": {"name_or_path": str(checkpoints("bert"))},
                "dataset": {"data_files": {"train": "train.jsonl", "validation": "validation.jsonl"}},
                "training": {
                    "num_train_epochs": 6, "per_device_train_batch_size": 16, "learning_rate": 3e-3, "seed": seed,
                    "mixed_precision": "no", "eval_strategy": "no", "save_strategy": "no",
                },
                "evaluation": {"baselines": [], "bias": [
                    {"probe": "swaps", "language": "en", "terms": "terms.csv", "hateful_label": "bad"},
                ]},
                "output_dir": str(tmp_path / f"runs-{association}-{seed}"),
            }  # fmt: skip
            (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
            assert main(["run", str(tmp_path / "recipe.yaml")]) == 0
            [directory] = (tmp_path / f"runs-{association}-{seed}").iterdir()
            [entry] = read_run(directory).bias["probes"]
            found = {(one["group"], one["measure"]): one for one in entry["after"]["findings"]}
            gaps.setdefault(association, []).append(found["planted: y → x", "score gap"]["value"])
            flags = {group: one["flagged"] for (group, kind), one in found.items() if kind == "flips beyond neutral"}
            assert not any(flagged for group, flagged in flags.items() if group.startswith("free"))
            if association == 0.9:
                assert flags["planted: x → y"]
                assert flags["planted: y → x"]
    means = [mean_over_seeds(gaps[association]) for association in (0.5, 0.7, 0.9)]
    assert means[0].value < means[1].value < means[2].value
    assert means[2].value > 0.5
    assert means[0].low <= 0 <= means[0].high


def planted_sentences(association):
    """Return sentences that say of two things something bad as often as said, and of two others as rarely."""
    often = round(20 * association)
    return [
        f"the {thing} seemed {word} to everyone"
        for things, words, count in (
            (("day", "film"), tiny.BAD, often), (("day", "film"), tiny.GOOD, 20 - often),
            (("meal", "answer"), tiny.BAD, 20 - often), (("meal", "answer"), tiny.GOOD, often),
        )
        for thing in things
        for word in words[:4]
        for _ in range(count)
    ]  # fmt: skip


def trained(model, tokenizer, association, seed):
    """Train a tiny model to tell the words of planted sentences: the one said of a thing hidden, or each to come."""
    torch.manual_seed(seed)
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    rows = tokenizer(planted_sentences(association), padding=True, return_tensors="pt")
    hidden = rows["input_ids"].shape[1] - 4  # the word before "to everyone" and [SEP]
    for module in model.modules():
        if isinstance(module, torch.nn.Linear | torch.nn.Embedding):
            torch.nn.init.normal_(module.weight, std=0.1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for _ in range(6):
        for batch in torch.randperm(len(rows["input_ids"])).split(64):
            ids, attention = rows["input_ids"][batch], rows["attention_mask"][batch]
            labels = ids.masked_fill(attention == 0, -100)
            if tokenizer.mask_token_id is not None:
                labels = torch.full_like(ids, -100).index_copy(1, torch.tensor([hidden]), ids[:, [hidden]])
                ids = ids.index_fill(1, torch.tensor([hidden]), tokenizer.mask_token_id)
            model(input_ids=ids, attention_mask=attention, labels=labels).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
    return model.eval()


def minimal_pairs():
    """Return pairs that differ in the thing: `more` says of it what was planted."""
    pairs = []
    for first, second in (("day", "meal"), ("film", "answer")):
        for word in (*tiny.BAD[:4], *tiny.GOOD[:4]):
            sentences = [f"the {thing} seemed {word} to everyone" for thing in (first, second)]
            pairs.append(Pair(*(sentences if word in tiny.BAD else sentences[::-1]), "planted"))
    return Pairs("crows", tuple(pairs), {}, "")


@pytest.mark.slow
@pytest.mark.parametrize(("family", "auto"), [("bert", "AutoModelForMaskedLM"), ("gpt2", "AutoModelForCausalLM")])
def test_planted_sentences_raise_the_share_of_stereotypes(family, auto, checkpoints):
    tokenizer = transformers.AutoTokenizer.from_pretrained(checkpoints(family))
    pairs, shares = minimal_pairs(), {}
    for association in (0.5, 0.7, 0.9):
        for seed in SEEDS:
            model = getattr(transformers, auto).from_pretrained(checkpoints(family))
            language_model = LanguageModel(
                trained(model, tokenizer, association, seed), tokenizer, family == "bert", "cpu"
            )
            scores = pair_scores(language_model, [(pair.more, pair.less) for pair in pairs.pairs])
            shares.setdefault(association, []).append(judge_pairs(pairs, scores, 0.95).findings[0].value)
    means = {association: mean_over_seeds(found) for association, found in shares.items()}
    assert means[0.5].value < means[0.7].value <= means[0.9].value
    assert means[0.9].value >= 90
    assert means[0.5].low <= 50 <= means[0.5].high
