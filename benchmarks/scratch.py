"""Small models of GPT-2's, BART's and T5's form, trained from random weights on real texts: what minutes reach.

Their tokenizers are trained on the same training texts. No published score is near what they reach, and none is set
beside them: README.md says why.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.machine import machine_words, surroundings, timed, today, usable_cores, versions
from benchmarks.publishing import markdown_table, publish, read_published

_SPECIAL = ("<s>", "<pad>", "</s>", "<unk>")
_VOCABULARY = 2000
_PROMPTS = ("ROMEO:\n", "First Citizen:\nWe are")
_THREADS = 2


@dataclass(frozen=True)
class Training:
    """A data set and the form of the model that is trained on it. columns: role → column of the data."""

    dataset: str
    family: str
    task: str
    columns: Mapping[str, str]
    steps: int

    @property
    def name(self) -> str:
        """Return data set and family in one word."""
        return f"{self.dataset}-{self.family}"


_MEANING = {"source": "mr", "target": "references"}
_ABSTRACT = {"source": "text", "target": "references"}
TRAININGS = (
    Training("tinyshakespeare", "gpt2", "text-generation", {"text": "text"}, 300),
    Training("e2e_nlg", "bart", "text2text-generation", _MEANING, 300),
    Training("e2e_nlg", "t5", "text2text-generation", _MEANING, 300),
    Training("scitldr", "bart", "summarization", _ABSTRACT, 150),
    Training("scitldr", "t5", "summarization", _ABSTRACT, 150),
)


def run(data: Path | None, resume: bool = False) -> None:
    """Train what is missing, and store figures and table after each; data sets that are not there are left out."""
    if data is None:
        print("scratch: skipped: --data names the folder that holds the data sets")
        return
    heading = {"benchmark": "scratch", "date": today(), "machine": machine_words(), "versions": versions()}
    stored = read_published("scratch") if resume else {}
    runs = list(stored.get("runs", ())) if stored.get("versions") == heading["versions"] else []
    for training in TRAININGS:
        if not (data / training.dataset / "train.jsonl").is_file():
            print(f"scratch: {training.name} skipped: {data / training.dataset} holds no train.jsonl")
        elif asdict(training) not in [entry["training"] for entry in runs]:
            print(f"scratch: {training.name}", file=sys.stderr, flush=True)
            with tempfile.TemporaryDirectory() as folder:
                runs.append(train(data / training.dataset, training, Path(folder)))
            result = {**heading, "runs": runs}
            publish("scratch", result, describe(result))
    if runs:
        print(describe({**heading, "runs": runs}))


def train(data: Path, training: Training, folder: Path) -> dict[str, Any]:
    """Run the command line on a model without weights; return its losses and scores, and what it generates."""
    recipe = folder / "recipe.yaml"
    recipe.write_text(json.dumps(recipe_of(data, training, folder), indent=2), encoding="utf-8")
    environment = {**surroundings(folder, min(_THREADS, usable_cores())), "OMP_WAIT_POLICY": "passive"}
    finetune = [sys.executable, "-m", "finetune"]
    timed([*finetune, "run", str(recipe), "--output-dir", str(folder / "runs"), "--offline"], environment)
    (path,) = (folder / "runs").glob("*/run.json")
    record = json.loads(path.read_text(encoding="utf-8"))
    answers = path.parent / "predictions-test.jsonl"
    if training.task == "text-generation":
        prompts, answers = folder / "prompts.jsonl", folder / "answers.jsonl"
        prompts.write_text("".join(json.dumps({"text": prompt}) + "\n" for prompt in _PROMPTS), encoding="utf-8")
        timed([*finetune, "predict", str(path.parent), str(prompts), "--output", str(answers)], environment)
    with answers.open(encoding="utf-8") as lines:
        said = [json.loads(line)["prediction"] for line in lines][:2]
    return {
        "training": asdict(training),
        "parameters": record["model"]["parameters"],
        "validation_loss": [entry["metrics"]["loss"] for entry in record["timeline"]],
        "untrained": {name: score["value"] for name, score in record["baselines"]["untrained"].items()},
        "test": {name: score["value"] for name, score in record["metrics"]["test"].items()},
        "test_rows": record["main_metric"]["n"],
        "generated": said,
    }


def recipe_of(data: Path, training: Training, folder: Path) -> dict[str, Any]:
    """Make the form of the model in `folder` and return the recipe that trains it."""
    form = save_form(training.family, texts_of(data, training), folder / "form")
    preprocessing = {"max_length": 192} | ({"packing": True} if training.task == "text-generation" else {})
    return {
        "task": training.task,
        "name": training.name,
        "model": {"name_or_path": str(form), "init": "scratch"},
        "dataset": {
            "data_files": {name: str(data.resolve() / f"{name}.jsonl") for name in ("train", "validation", "test")},
            "columns": dict(training.columns),
            "max_eval_samples": 200,
        },
        "preprocessing": preprocessing,
        "training": {
            "max_steps": training.steps,
            "learning_rate": 3e-3,
            "per_device_train_batch_size": 16,
            "eval_strategy": "steps",
            "eval_steps": training.steps // 3,
            "mixed_precision": "no",
            "seed": 1,
        },
        "generation": {"max_new_tokens": 48},
        "evaluation": {"baselines": ["untrained"]},
    }


def texts_of(data: Path, training: Training) -> Iterator[str]:
    """Yield the training texts, sources and targets alike."""
    with (data / "train.jsonl").open(encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            for column in training.columns.values():
                yield from [row[column]] if isinstance(row[column], str) else row[column]


def save_form(family: str, texts: Iterator[str], folder: Path) -> Path:
    """Save configuration and tokenizer of a small model without weights: what model.init: scratch starts from."""
    import transformers as t

    raw = _unigram(texts) if family == "t5" else _bpe(texts)
    names = {"bos_token": "<s>", "pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    tokenizer = t.PreTrainedTokenizerFast(tokenizer_object=raw, **names, model_max_length=512)
    ids = {"vocab_size": len(tokenizer), "pad_token_id": 1, "eos_token_id": 2}
    if family == "gpt2":
        config = t.GPT2Config(**ids, bos_token_id=0, n_embd=128, n_layer=2, n_head=4, n_positions=512)
    else:
        from tokenizers import processors

        raw.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 2)])
        tokenizer = t.PreTrainedTokenizerFast(tokenizer_object=raw, **names, model_max_length=512)
        config = _bart(ids) if family == "bart" else _t5(ids)
    tokenizer.save_pretrained(folder)
    config.save_pretrained(folder)
    return folder


def _bpe(texts: Iterator[str]) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    raw.train_from_iterator(
        texts, trainers.BpeTrainer(vocab_size=_VOCABULARY, special_tokens=list(_SPECIAL), initial_alphabet=alphabet)
    )
    return raw


def _unigram(texts: Iterator[str]) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    raw = Tokenizer(models.Unigram())
    raw.pre_tokenizer = pre_tokenizers.Metaspace()
    raw.decoder = decoders.Metaspace()
    raw.train_from_iterator(
        texts,
        trainers.UnigramTrainer(vocab_size=_VOCABULARY, special_tokens=list(_SPECIAL), unk_token="<unk>"),
    )
    return raw


def _bart(ids: Mapping[str, int]) -> Any:
    from transformers import BartConfig

    return BartConfig(
        **ids, bos_token_id=0, decoder_start_token_id=2, forced_eos_token_id=None, d_model=128, encoder_layers=2,
        decoder_layers=2, encoder_attention_heads=4, decoder_attention_heads=4, encoder_ffn_dim=256,
        decoder_ffn_dim=256, max_position_embeddings=512, init_std=0.05,
    )  # fmt: skip


def _t5(ids: Mapping[str, int]) -> Any:
    from transformers import T5Config

    return T5Config(**ids, decoder_start_token_id=1, d_model=128, num_layers=2, num_heads=4, d_kv=32, d_ff=256)


def describe(result: Mapping[str, Any]) -> str:
    """Return the Markdown of a result: a training a row, and what the models say."""
    header = ["data set, form", "weights", "steps", "validation loss at 1/3, 2/3, end", "test perplexity, untrained",
              "test perplexity", "ROUGE-L", "BLEU", "test rows"]  # fmt: skip
    known = ", ".join(f"{name} {number}" for name, number in result["versions"].items())
    parts = [
        f"{result['date']} · {result['machine']} · {known}",
        markdown_table(header, [_cells(entry) for entry in result["runs"]]),
        "What they say:\n\n" + "\n".join(_sample(entry) for entry in result["runs"]),
    ]
    return "\n\n".join(parts)


def _cells(entry: Mapping[str, Any]) -> list[str]:
    training, test = entry["training"], entry["test"]
    return [
        f"{training['dataset']}, {training['family']}",
        f"{entry['parameters'] / 1e6:.2f} M",
        f"{training['steps']:,}",
        " → ".join(f"{loss:.2f}" for loss in entry["validation_loss"]),
        f"{entry['untrained']['perplexity']:,.0f}",
        f"{test['perplexity']:,.1f}",
        *(f"{test[name]:.3f}" if name in test else "" for name in ("rougeL", "bleu")),
        f"{entry['test_rows']:,}",
    ]


def _sample(entry: Mapping[str, Any]) -> str:
    training, words = entry["training"], json.dumps(entry["generated"][0], ensure_ascii=False)
    return f"- {training['dataset']}, {training['family']}: {words}"
