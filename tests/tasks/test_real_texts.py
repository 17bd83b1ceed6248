"""Scratch models of BART's and T5's form on real text pairs; no published score is near what minutes can reach."""

import json
from pathlib import Path

import pytest
import yaml

from finetune.cli.app import main

DATA = Path(__file__).parents[2].parent / "shared" / "data"
pytestmark = pytest.mark.slow


def checkpoint_form(family, texts, folder):
    """Save configuration and tokenizer of a small model without weights: what model.init: scratch starts from."""
    import transformers as t
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    special = ["<s>", "<pad>", "</s>", "<unk>"]
    if family == "bart":
        raw = Tokenizer(models.BPE())
        raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        raw.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(vocab_size=2000, special_tokens=special, initial_alphabet=alphabet)
    else:
        raw = Tokenizer(models.Unigram())
        raw.pre_tokenizer = pre_tokenizers.Metaspace()
        raw.decoder = decoders.Metaspace()
        trainer = trainers.UnigramTrainer(vocab_size=2000, special_tokens=special, unk_token="<unk>")
    raw.train_from_iterator(texts, trainer)
    raw.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 2)])
    names = {"bos_token": "<s>", "pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    tokenizer = t.PreTrainedTokenizerFast(tokenizer_object=raw, **names, model_max_length=512)
    tokenizer.save_pretrained(folder)
    size = {"vocab_size": len(tokenizer), "d_model": 128, "pad_token_id": 1, "eos_token_id": 2}
    if family == "bart":
        config = t.BartConfig(
            **size, bos_token_id=0, decoder_start_token_id=2, forced_eos_token_id=None, encoder_layers=2,
            decoder_layers=2, encoder_attention_heads=4, decoder_attention_heads=4, encoder_ffn_dim=256,
            decoder_ffn_dim=256, max_position_embeddings=512, init_std=0.05,
        )  # fmt: skip
    else:
        config = t.T5Config(**size, decoder_start_token_id=1, num_layers=2, num_heads=4, d_kv=32, d_ff=256)
    config.save_pretrained(folder)
    return folder


SETS = [
    ("e2e_nlg", "text2text-generation", {"source": "mr", "target": "references"}, "rougeL", 300),
    ("scitldr", "summarization", {"source": "text", "target": "references"}, "rougeL", 150),
]


@pytest.mark.parametrize("family", ["bart", "t5"])
@pytest.mark.parametrize(("name", "task", "columns", "metric", "steps"), SETS, ids=[entry[0] for entry in SETS])
def test_scratch_models_learn_real_texts(name, task, columns, metric, steps, family, tmp_path, capsys):
    if not (DATA / name).is_dir():
        pytest.skip(f"{name} is not beside the checkout")
    rows = [json.loads(line) for line in (DATA / name / "train.jsonl").read_text(encoding="utf-8").splitlines()]
    texts = [text for row in rows for text in (row[columns["source"]], *row[columns["target"]])]
    recipe = {
        "task": task,
        "model": {"name_or_path": str(checkpoint_form(family, texts, tmp_path / "form")), "init": "scratch"},
        "dataset": {"path": str(DATA / name), "columns": columns, "max_eval_samples": 40},
        "preprocessing": {"max_length": 192},
        "training": {
            "max_steps": steps, "learning_rate": 3e-3, "per_device_train_batch_size": 16, "mixed_precision": "no",
            "eval_strategy": "steps", "eval_steps": steps // 3,
        },
        "generation": {"max_new_tokens": 48},
        "emissions": {"country_iso_code": "BRA"},
        "output_dir": str(tmp_path / "runs"),
    }  # fmt: skip
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe))
    assert main(["run", str(path)]) == 0, capsys.readouterr().err
    [directory] = (tmp_path / "runs").iterdir()
    run = json.loads((directory / "run.json").read_text())
    losses = [entry["metrics"]["loss"] for entry in run["timeline"]]
    scores, untrained = run["metrics"]["test"], run["baselines"]["untrained"]
    with capsys.disabled():
        print(name, family, [round(loss, 3) for loss in losses])
        print({metric: round(entry["value"], 4) for metric, entry in scores.items()}, run["emissions"]["duration_s"])
        print([json.loads(line)["prediction"] for line in (directory / "predictions-test.jsonl").open()][:2])
    assert losses == sorted(losses, reverse=True)
    assert scores["perplexity"]["value"] < untrained["perplexity"]["value"] / 5
    assert scores[metric]["value"] > untrained[metric]["value"] + 0.05
    assert scores["bleu"]["low"] <= scores["bleu"]["value"] <= scores["bleu"]["high"]
