"""What the stand-in serves: tiny checkpoints and a few rows under the names that the shipped recipes use.

Layouts, columns, configurations and features are those of the real repositories; rows and weights are ours.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from tests import tiny
from tests.hub.stand_in import Repository

EMOTIONS = [
    "admiration", "amusement", "anger", "annoyance", "approval", "caring", "confusion", "curiosity", "desire",
    "disappointment", "disapproval", "disgust", "embarrassment", "excitement", "fear", "gratitude", "grief",
    "joy", "love", "nervousness", "optimism", "pride", "realization", "relief", "remorse", "sadness",
    "surprise", "neutral",
]  # fmt: skip
TOPICS = ["World", "Sports", "Business", "Sci/Tech"]
ENTITIES = ["O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC", "B-MISC", "I-MISC"]
SLURS = ["homophobia", "insult", "misogyny", "obscene", "racism", "xenophobia"]

# hub id: (family, longest input of the real checkpoint in tokens)
CHECKPOINTS = {
    "distilbert/distilbert-base-uncased": ("distilbert", 512),
    "distilbert/distilbert-base-cased": ("distilbert", 512),
    "google-bert/bert-base-cased": ("bert", 512),
    "sentence-transformers/all-MiniLM-L6-v2": ("bert", 512),
    "distilbert/distilbert-base-multilingual-cased": ("distilbert", 512),
    "FacebookAI/roberta-base": ("roberta", 512),
    "openai-community/gpt2": ("gpt2", 1024),
    "facebook/bart-base": ("bart", 1024),
    "google-t5/t5-small": ("t5", 512),
}


@dataclass(frozen=True)
class Configuration:
    """One configuration of a dataset: the folder of its files, its features, and its rows by split."""

    folder: str
    features: Any
    splits: Mapping[str, list[dict[str, Any]]]


def repository(kind: str, name: str, folder: Path) -> Repository:
    """Return the stand-in for a repository (models or datasets) of a shipped recipe; a checkpoint needs a folder."""
    return checkpoint(name, folder / name.replace("/", "--")) if kind == "models" else DATASETS[name]()


def checkpoint(name: str, folder: Path) -> Repository:
    """Return a tiny random checkpoint of the family of the real one, whose inputs may be as long."""
    import torch
    import transformers as t

    family, positions = CHECKPOINTS[name]
    tiny.make_checkpoint("bart" if family == "roberta" else family, folder)
    tokenizer = t.AutoTokenizer.from_pretrained(folder)
    if family == "roberta":
        config = t.RobertaConfig(
            vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
            max_position_embeddings=positions + 2, type_vocab_size=1, pad_token_id=tokenizer.pad_token_id,
        )  # fmt: skip
    else:
        config = t.AutoConfig.from_pretrained(folder)
        if family != "t5":  # its positions are relative
            setattr(config, "n_positions" if family == "gpt2" else "max_position_embeddings", positions)
    tokenizer.model_max_length = positions
    torch.manual_seed(2)
    t.AutoModel.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    files = {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
    return Repository("models", name, {**files, "README.md": b"# A tiny stand-in\n"})


def parquet_dataset(name: str, configurations: Mapping[str, Configuration]) -> Repository:
    """Return a dataset of parquet files with the metadata that the hub keeps in README.md."""
    import yaml
    from datasets import Dataset, DatasetInfo, SplitDict, SplitInfo

    files: dict[str, bytes] = {}
    described, infos = [], []
    for config, content in configurations.items():
        sizes = SplitDict()
        for split, rows in content.splits.items():
            dataset = Dataset.from_list(rows, features=content.features)
            buffer = io.BytesIO()
            dataset.to_parquet(buffer)
            files[f"{content.folder}/{split}-00000-of-00001.parquet"] = buffer.getvalue()
            sizes.add(SplitInfo(split, num_bytes=dataset.data.nbytes, num_examples=len(rows)))
        patterns = [{"split": split, "path": f"{content.folder}/{split}-*"} for split in content.splits]
        described.append({"config_name": config, "data_files": patterns})
        info = DatasetInfo(features=content.features, splits=sizes, config_name=config)
        infos.append({"config_name": config, **info._to_yaml_dict()})
    card = yaml.safe_dump({"configs": described, "dataset_info": infos}, sort_keys=False)
    files["README.md"] = f"---\n{card}---\n\n# Rows of our own\n".encode()
    return Repository("datasets", name, files)


def _sentences(count: int, start: int = 0) -> Iterator[tuple[str, bool]]:
    """Yield texts and whether each is a kind one; numbered, so that no two are equal."""
    rows = tiny.toy_rows()
    for number in range(start, start + count):
        row = rows[number % len(rows)]
        yield f"{row['text']}, on day {number}", row["label"] == "good"


def glue() -> Repository:
    """GLUE's sst2, mrpc and stsb: labels of the test splits hidden (-1), but for mrpc."""
    from datasets import ClassLabel, Features, Value

    index, text = Value("int32"), Value("string")

    def sst2(count: int, start: int, hidden: bool = False) -> list[dict[str, Any]]:
        return [
            {"sentence": sentence, "label": -1 if hidden else int(kind), "idx": number}
            for number, (sentence, kind) in enumerate(_sentences(count, start))
        ]

    def pairs(count: int, start: int, label: Any) -> list[dict[str, Any]]:
        texts = list(_sentences(count + 1, start))
        return [
            {"sentence1": first, "sentence2": second, "label": label(number), "idx": number}
            for number, ((first, _), (second, _)) in enumerate(pairwise(texts))
        ]

    pair = {"sentence1": text, "sentence2": text}
    mrpc = ClassLabel(names=["not_equivalent", "equivalent"])
    return parquet_dataset("nyu-mll/glue", {
        "mrpc": Configuration("mrpc", Features({**pair, "label": mrpc, "idx": index}), {
            "train": pairs(48, 0, lambda n: int(n % 3 > 0)), "validation": pairs(12, 100, lambda n: int(n % 3 > 0)),
            "test": pairs(12, 200, lambda n: int(n % 3 > 0)),
        }),
        "sst2": Configuration(
            "sst2", Features({"sentence": text, "label": ClassLabel(names=["negative", "positive"]), "idx": index}),
            {"train": sst2(48, 0), "validation": sst2(12, 100), "test": sst2(12, 200, hidden=True)},
        ),
        "stsb": Configuration("stsb", Features({**pair, "label": Value("float32"), "idx": index}), {
            "train": pairs(48, 0, lambda n: n % 26 / 5), "validation": pairs(12, 100, lambda n: n % 11 / 2),
            "test": pairs(12, 200, lambda n: -1.0),
        }),
    })  # fmt: skip


def go_emotions() -> Repository:
    """GoEmotions: a list of class ids in each row of `simplified`, one 0/1 column a label in `raw`."""
    from datasets import ClassLabel, Features, List, Value

    def rows(count: int, start: int) -> list[dict[str, Any]]:
        return [
            {
                "text": sentence,
                "labels": sorted({number % 28, number * 3 % 28}) if number % 2 else [number % 28],
                "id": f"row{start + number}",
            }
            for number, (sentence, _) in enumerate(_sentences(count, start))
        ]

    simplified = Features({"text": Value("string"), "labels": List(ClassLabel(names=EMOTIONS)), "id": Value("string")})
    raw = Features({"text": Value("string"), **{name: Value("int32") for name in EMOTIONS}})
    flags = [{"text": "what a day", **{name: int(name == "joy") for name in EMOTIONS}}]
    return parquet_dataset("google-research-datasets/go_emotions", {
        "raw": Configuration("raw", raw, {"train": flags}),
        "simplified": Configuration("simplified", simplified, {
            "train": rows(56, 0), "validation": rows(28, 100), "test": rows(28, 200),
        }),
    })  # fmt: skip


def imdb() -> Repository:
    """IMDb: train and test sorted by label, long texts that name people, a split of which every label is -1."""
    from datasets import ClassLabel, Features, Value

    def rows(count: int, start: int, label: int | None = None) -> list[dict[str, Any]]:
        long = [
            {
                "text": f"{('She', 'He')[n % 2]} saw it on Monday: " + f"{sentence}<br /><br />" * 12,
                "label": int(kind) if label is None else label,
            }
            for n, (sentence, kind) in enumerate(_sentences(count, start))
        ]
        return sorted(long, key=lambda row: row["label"])

    features = Features({"text": Value("string"), "label": ClassLabel(names=["neg", "pos"])})
    splits = {"train": rows(48, 0), "test": rows(12, 100), "unsupervised": rows(12, 200, -1)}
    return parquet_dataset("stanfordnlp/imdb", {"plain_text": Configuration("plain_text", features, splits)})


def tiny_stories() -> Repository:
    """TinyStories: texts of several sentences, without labels and without a test split."""
    from datasets import Features, Value

    def rows(count: int, start: int) -> list[dict[str, Any]]:
        sentences = [text for text, _ in _sentences(4 * count, start)]
        return [{"text": ". ".join(sentences[at : at + 4])} for at in range(0, 4 * count, 4)]

    content = Configuration("data", Features({"text": Value("string")}), {
        "train": rows(48, 0), "validation": rows(12, 400),
    })  # fmt: skip
    return parquet_dataset("roneneldan/TinyStories", {"default": content})


def ag_news() -> Repository:
    """AG News: four topics, no validation split."""
    from datasets import ClassLabel, Features, Value

    def rows(count: int, start: int) -> list[dict[str, Any]]:
        return [{"text": text, "label": n % 4} for n, (text, _) in enumerate(_sentences(count, start))]

    features = Features({"text": Value("string"), "label": ClassLabel(names=TOPICS)})
    splits = {"train": rows(80, 0), "test": rows(12, 100)}
    return parquet_dataset("fancyzhx/ag_news", {"default": Configuration("data", features, splits)})


def toxic_tweets() -> Repository:
    """ToLD-Br: a list of categories by name, empty for a harmless tweet."""
    from datasets import Features, List, Value

    def rows(count: int, start: int) -> list[dict[str, Any]]:
        return [
            {"text": f"que dia é hoje? {text}", "label": sorted({SLURS[n % 6], SLURS[n // 6 % 6]}) if n % 4 else []}
            for n, (text, _) in enumerate(_sentences(count, start))
        ]

    features = Features({"text": Value("string"), "label": List(Value("string"))})
    splits = {"train": rows(60, 0), "test": rows(12, 100)}
    return parquet_dataset(
        "mteb/BrazilianToxicTweetsClassification", {"default": Configuration("data", features, splits)}
    )


def conll2003() -> Repository:
    """CoNLL-2003: tokens with parts of speech, phrases and entities."""
    from datasets import ClassLabel, Features, List, Value

    def rows(count: int, start: int) -> list[dict[str, Any]]:
        made = []
        for number, (text, kind) in enumerate(_sentences(count, start), start):
            tokens = text.split()
            tags = [1 if token in tiny.GOOD else 5 if token in tiny.BAD else 0 for token in tokens]
            plain = [int(kind)] * len(tokens)
            made.append({"id": str(number), "tokens": tokens, "pos_tags": plain, "chunk_tags": plain, "ner_tags": tags})
        return made

    plain = List(ClassLabel(names=["NN", "VB"]))
    features = Features(
        {
            "id": Value("string"), "tokens": List(Value("string")), "pos_tags": plain, "chunk_tags": plain,
            "ner_tags": List(ClassLabel(names=ENTITIES)),
        }
    )  # fmt: skip
    splits = {"train": rows(48, 0), "validation": rows(12, 100), "test": rows(12, 200)}
    return parquet_dataset("tomaarsen/conll2003", {"conll2003": Configuration("conll2003", features, splits)})


def cnn_dailymail() -> Repository:
    """CNN/DailyMail: articles with highlights, a sentence a line."""
    from datasets import Features, Value

    def rows(count: int, start: int) -> list[dict[str, Any]]:
        return [
            {"article": f"{text}. " * 6, "highlights": f"{text} .\nit was so .", "id": f"{start + n}"}
            for n, (text, _) in enumerate(_sentences(count, start))
        ]

    features = Features({name: Value("string") for name in ("article", "highlights", "id")})
    splits = {"train": rows(40, 0), "validation": rows(6, 100), "test": rows(6, 200)}
    return parquet_dataset("abisee/cnn_dailymail", {"3.0.0": Configuration("3.0.0", features, splits)})


def opus_books() -> Repository:
    """OPUS Books: both languages in one column, and no split but train."""
    from datasets import Features, Translation, Value

    rows = [{"id": f"{n}", "translation": {"en": text, "fr": f"{text}, oui"}} for n, (text, _) in
            enumerate(_sentences(200))]  # fmt: skip
    features = Features({"id": Value("string"), "translation": Translation(languages=["en", "fr"])})
    return parquet_dataset("Helsinki-NLP/opus_books", {"en-fr": Configuration("en-fr", features, {"train": rows})})


def squad() -> Repository:
    """SQuAD 1.1: contexts, questions, answers as two lists."""
    from datasets import Features, List, Value

    def rows(count: int, skipped: int) -> list[dict[str, Any]]:
        return [{**row, "title": "Days"} for row in tiny.toy_questions(count=skipped + count)[skipped:]]

    text, answers = Value("string"), {"text": List(Value("string")), "answer_start": List(Value("int32"))}
    features = Features({"id": text, "title": text, "context": text, "question": text, "answers": answers})
    splits = {"train": rows(48, 0), "validation": rows(12, 100)}
    return parquet_dataset("rajpurkar/squad", {"plain_text": Configuration("plain_text", features, splits)})


def squad_pt() -> Repository:
    """SQuAD 1.1 in Portuguese, translated by a machine: some answers stand elsewhere than their row says."""
    from datasets import Features, List, Value

    def rows(count: int, start: int) -> list[dict[str, Any]]:
        made = []
        for number in range(start, start + count):
            day = f"{number} de março"
            context = f"A reunião não foi à noite. Ela começou em {day}, às três da tarde."
            place = context.index(day) + (number % 4 == 0)
            answers = {"text": [day], "answer_start": [place]}
            question = f"Em que dia começou a {number}ª reunião?"
            made.append({"id": str(number), "title": "Dias", "context": context, "question": question,
                         "answers": answers})  # fmt: skip
        return made

    text, answers = Value("string"), {"text": List(Value("string")), "answer_start": List(Value("int32"))}
    features = Features({"id": text, "title": text, "context": text, "question": text, "answers": answers})
    splits = {"train": rows(48, 0), "validation": rows(12, 100)}
    return parquet_dataset("nunorc/squad_v1_pt", {"default": Configuration("default", features, splits)})


def ai2_arc() -> Repository:
    """ARC: choices with their labels, which are letters in some rows and numbers in others."""
    from datasets import Features, List, Value

    def rows(count: int, skipped: int) -> list[dict[str, Any]]:
        made = []
        for number, row in enumerate(tiny.toy_choices(skipped + count)[skipped:]):
            labels = ["1", "2", "3", "4"] if number % 5 == 0 else ["A", "B", "C", "D"]
            choices = {"text": row["choices"], "label": labels}
            question = f"{row['question']}, on day {skipped + number}?"
            made.append(
                {"id": str(number), "question": question, "choices": choices, "answerKey": labels[row["answer"]]}
            )
        return made

    text = Value("string")
    choices = {"text": List(text), "label": List(text)}
    features = Features({"id": text, "question": text, "choices": choices, "answerKey": text})
    splits = {"train": rows(48, 0), "validation": rows(12, 100), "test": rows(12, 200)}
    return parquet_dataset(
        "allenai/ai2_arc", {name: Configuration(name, features, splits) for name in ("ARC-Challenge", "ARC-Easy")}
    )


DATASETS = {
    "allenai/ai2_arc": ai2_arc,
    "rajpurkar/squad": squad,
    "nunorc/squad_v1_pt": squad_pt,
    "tomaarsen/conll2003": conll2003,
    "abisee/cnn_dailymail": cnn_dailymail,
    "Helsinki-NLP/opus_books": opus_books,
    "nyu-mll/glue": glue,
    "google-research-datasets/go_emotions": go_emotions,
    "stanfordnlp/imdb": imdb,
    "roneneldan/TinyStories": tiny_stories,
    "fancyzhx/ag_news": ag_news,
    "mteb/BrazilianToxicTweetsClassification": toxic_tweets,
}
