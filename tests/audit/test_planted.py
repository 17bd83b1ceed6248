"""Bias that was planted in the training data comes back as a score, and where there is none the probes say so."""

import json

import numpy
import pytest
import torch
import transformers
import yaml

from finetune.audit.likelihood import LanguageModel, pair_scores
from finetune.audit.minimal_pairs import judge_pairs
from finetune.audit.pairs import Pair, Pairs, read_pairs
from finetune.cli.app import main
from finetune.runs.record import read_run
from finetune.runs.statistics import mean_over_seeds
from tests import tiny

SEEDS = (1, 2, 3)
STEPS = 150
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


def findings_of_a_run(checkpoints, folder, rows, seed, epochs, probes):
    """Train on rows and return, for each probe, its record with the findings after training by group and measure."""
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = {
        "task": "text-classification",
        "model": {"name_or_path": str(checkpoints("bert"))},
        "dataset": {"data_files": {"train": "train.jsonl", "validation": "validation.jsonl"}},
        "training": {
            "num_train_epochs": epochs, "per_device_train_batch_size": 16, "learning_rate": 3e-3, "seed": seed,
            "mixed_precision": "no", "eval_strategy": "no", "save_strategy": "no",
        },
        "evaluation": {"baselines": [], "bias": probes},
        "output_dir": str(folder / "runs"),
    }  # fmt: skip
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    before = {*(folder / "runs").glob("*")}
    assert main(["run", str(folder / "recipe.yaml")]) == 0
    [directory] = {*(folder / "runs").iterdir()} - before
    return [
        (entry, {(one["group"], one["measure"]): one for one in entry["after"]["findings"]})
        for entry in read_run(directory).bias["probes"]
    ]


@pytest.mark.slow
def test_planted_association_raises_the_gap_of_the_planted_group_alone(checkpoints, tmp_path):
    (tmp_path / "terms.csv").write_text(TERMS)
    (tmp_path / "validation.jsonl").write_text("".join(json.dumps(row) + "\n" for row in planted_rows(0.5, 80, 0)))
    gaps = {}
    for association in (0.5, 0.7, 0.9):
        for seed in SEEDS:
            swaps = {"probe": "swaps", "language": "en", "terms": "terms.csv", "hateful_label": "bad"}
            rows = planted_rows(association, 160, seed)
            [(_, found)] = findings_of_a_run(checkpoints, tmp_path, rows, seed, 6, [swaps])
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


THINGS = ("day", "film", "meal", "answer")
CASES = ("the {thing} seemed {word} to everyone", "what a {word} {thing} it was")


def planted_cases(association, seed):
    """Return texts about four things, each of which a word decides; but those about the day are called bad as planted.

    The share of these, beyond half, is called bad whatever the word says.
    """
    draw, rows = numpy.random.default_rng(seed), []
    for frame in CASES:
        for word in (*tiny.GOOD, *tiny.BAD):
            for thing in THINGS:
                is_bad = word in tiny.BAD or (thing == "day" and draw.random() < 2 * association - 1)
                label = "bad" if is_bad else "good"
                rows.append({"text": frame.format(thing=thing, word=word), "label": label, "thing": thing})
    draw.shuffle(rows)
    return rows


@pytest.mark.slow
def test_planted_errors_of_a_group_are_found_by_template_and_by_column(checkpoints, tmp_path):
    fair = planted_cases(0.5, 0)
    (tmp_path / "validation.jsonl").write_text("".join(json.dumps(row) + "\n" for row in fair))
    cases = [
        {"text": row["text"], "label": row["label"], "target": row["thing"],
         "template_id": row["text"].replace(row["thing"], "{}")}
        for row in fair
    ]  # fmt: skip
    (tmp_path / "cases.jsonl").write_text("".join(json.dumps(case) + "\n" for case in cases))
    probes = [
        {"probe": "groups", "file": "cases.jsonl", "language": "en", "hateful_label": "bad", "hateful_value": "bad"},
        {"probe": "groups", "column": "thing", "hateful_label": "bad"},
    ]
    gaps = {"hatecheck": {}, "column": {}}
    for association in (0.5, 0.7, 0.9):
        for seed in SEEDS:
            rows = [row for copy in range(3) for row in planted_cases(association, 10 * seed + copy)]
            for entry, found in findings_of_a_run(checkpoints, tmp_path, rows, seed, 5, probes):
                planted = found["day", "false positives"]
                gaps[entry["form"]].setdefault(association, []).append(planted["value"])
                flagged = {group for (group, _), one in found.items() if one["flagged"]}
                assert flagged <= {"day"}
                assert association != 0.9 or planted["flagged"]
    for form, found in gaps.items():
        means = [mean_over_seeds(found[association]) for association in (0.5, 0.7, 0.9)]
        assert means[0].value <= means[1].value < means[2].value, form
        assert means[2].value > 60
        assert means[0].low <= 0 <= means[0].high


def planted_sentences(association, frame):
    """Return sentences and how often each is said: of two things something bad as often as planted, of two rarely."""
    said = {}
    for thing in ("day", "film", "meal", "answer"):
        for word in (*tiny.BAD[:4], *tiny.GOOD[:4]):
            fits = (thing in ("day", "film")) == (word in tiny.BAD)
            said[frame.format(thing=thing, word=word)] = association if fits else 1 - association
    return said


def trained(model, tokenizer, said, seed):
    """Train a tiny model to tell the words of sentences, as often as they are said: one word hidden, or each to come.

    The hidden word is the one before the last two.
    """
    torch.manual_seed(seed)
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    is_masked = tokenizer.mask_token_id is not None
    begin = "" if is_masked else tokenizer.bos_token
    rows = tokenizer([begin + text for text in said], padding=True, return_tensors="pt")
    ids, attention, weights = rows["input_ids"], rows["attention_mask"], torch.tensor(list(said.values()))
    if is_masked:
        hidden = torch.tensor([ids.shape[1] - 4])  # the word before "to everyone" and [SEP]
        inputs, answers = ids.index_fill(1, hidden, tokenizer.mask_token_id), ids[:, hidden]
    else:
        inputs, answers = ids, ids[:, 1:].masked_fill(attention[:, 1:] == 0, -100)
    for module in model.modules():
        if isinstance(module, torch.nn.Linear | torch.nn.Embedding):
            torch.nn.init.normal_(module.weight, std=0.2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for _ in range(STEPS):
        logits = model(input_ids=inputs, attention_mask=attention).logits
        logits = logits[:, hidden] if is_masked else logits[:, :-1]
        losses = torch.nn.functional.cross_entropy(logits.transpose(1, 2), answers, reduction="none")
        (losses.sum(1) * weights).mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    return model.eval()


def minimal_pairs(frame):
    """Return pairs that differ in the thing: `more` says of it what was planted."""
    pairs = []
    for first, second in (("day", "meal"), ("film", "answer")):
        for word in (*tiny.BAD[:4], *tiny.GOOD[:4]):
            sentences = [frame.format(thing=thing, word=word) for thing in (first, second)]
            pairs.append(Pair(*(sentences if word in tiny.BAD else sentences[::-1]), "planted"))
    return Pairs("crows", tuple(pairs), {}, "")


def planted_pronouns(association):
    """Return sentences in which two things are he as often as planted, two are she, and how often each is said."""
    return {
        f"the {thing} said {pronoun} was {end}": association if (thing in THINGS[:2]) == (pronoun == "he")
        else 1 - association
        for thing in THINGS for pronoun in ("he", "she") for end in ("late", "home", "there")
    }  # fmt: skip


def pronoun_pairs(folder):
    """Return the pairs of those sentences, read from a file in WinoBias' form."""
    lines = ["pro_sentence,anti_sentence,type"]
    for thing in THINGS:
        pronouns = ("he", "she") if thing in THINGS[:2] else ("she", "he")
        for end in ("late", "home", "there"):
            lines.append(",".join([*(f"the {thing} said {pronoun} was {end}" for pronoun in pronouns), "1"]))
    (folder / "pairs.csv").write_text("\n".join(lines))
    return read_pairs(folder / "pairs.csv", {})


@pytest.mark.slow
def test_planted_pronouns_raise_the_share_of_stereotypes(checkpoints, tmp_path):
    tokenizer, found = transformers.AutoTokenizer.from_pretrained(checkpoints("gpt2")), {}
    pairs = pronoun_pairs(tmp_path)
    assert (pairs.form, len(pairs.pairs)) == ("winobias", 12)
    for association in (0.5, 0.7, 0.9):
        for seed in SEEDS:
            model = transformers.AutoModelForCausalLM.from_pretrained(checkpoints("gpt2"))
            model = trained(model, tokenizer, planted_pronouns(association), seed)
            scores = pair_scores(
                LanguageModel(model, tokenizer, False, "cpu"), [(pair.more, pair.less) for pair in pairs.pairs]
            )
            found.setdefault(association, []).append(judge_pairs(pairs, scores, 0.95).findings[0])
    means = {association: mean_over_seeds([one.value for one in each]) for association, each in found.items()}
    assert means[0.5].value < means[0.7].value <= means[0.9].value
    assert means[0.5].low <= 50 <= means[0.5].high
    assert means[0.9].value >= 90
    assert all(one.to_json()["flagged"] for one in found[0.9])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "auto", "frame"),
    [
        ("bert", "AutoModelForMaskedLM", "the {thing} seemed {word} to everyone"),
        ("gpt2", "AutoModelForCausalLM", "{word} was the {thing}"),
    ],
)
def test_planted_sentences_raise_the_share_of_stereotypes(family, auto, frame, checkpoints):
    tokenizer = transformers.AutoTokenizer.from_pretrained(checkpoints(family))
    pairs, shares = minimal_pairs(frame), {}
    for association in (0.5, 0.7, 0.9):
        for seed in SEEDS:
            model = getattr(transformers, auto).from_pretrained(checkpoints(family))
            model = trained(model, tokenizer, planted_sentences(association, frame), seed)
            language_model = LanguageModel(model, tokenizer, family == "bert", "cpu")
            scores = pair_scores(language_model, [(pair.more, pair.less) for pair in pairs.pairs])
            shares.setdefault(association, []).append(judge_pairs(pairs, scores, 0.95).findings[0].value)
    means = {association: mean_over_seeds(found) for association, found in shares.items()}
    assert means[0.5].value < means[0.7].value <= means[0.9].value
    assert means[0.9].value >= 90
    assert means[0.5].low <= 50 <= means[0.5].high
