"""Tags and conll files: how they are read, normalised, and what is refused."""

import json

import pytest

from finetune.data.sources import load_data
from finetune.errors import FinetuneError
from finetune.recipe.schema import Recipe
from finetune.tasks import all_tasks

TASK = all_tasks()["token-classification"]
WORDS = ["Ana", "Lima", "met", "Rui", "Sá", "Eva", "."]


def load(folder, **section):
    section = {"path": str(folder), **section}
    recipe = Recipe.model_validate({"task": TASK.name, "model": {"name_or_path": "any"}, "dataset": section})
    return load_data(recipe, TASK)


def write(folder, train, validation=None):
    for name, rows in {"train": train, "validation": validation or train[:1]}.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def tags_of(data, split="train"):
    return [[data.labels.names[tag] if tag >= 0 else None for tag in row] for row in data.splits[split]["tags"][:]]


BIO = ["B-per", "I-per", "O", "B-per", "I-per", "B-per", "O"]


@pytest.mark.parametrize(
    ("tags", "note"),
    [
        (BIO, None),
        (["I-per", "I-per", "O", "I-per", "I-per", "B-per", "O"], "IOB1"),
        (["B-per", "E-per", "O", "B-per", "E-per", "S-per", "O"], "IOBES"),
        (["B-per", "L-per", "O", "B-per", "L-per", "U-per", "O"], "BILOU"),
    ],
)
def test_tags_are_written_as_bio(tags, note, tmp_path):
    data = load(write(tmp_path, [{"tokens": WORDS, "tags": tags}, {"tokens": WORDS[:3], "tags": tags[:3]}]))
    assert tags_of(data) == [BIO, BIO[:3]]
    assert data.labels.names == ("O", "B-per", "I-per")
    assert data.labels.problem_type == "entities"
    said = [text for text in data.notes if "written as BIO" in text]
    assert ([note in text for text in said] == [True]) if note else said == []


def test_tags_without_prefixes_are_plain_and_may_be_numbers(tmp_path):
    words = ["NOUN", "NOUN", "VERB", "NOUN", "NOUN", "NOUN", "PUNCT"]
    data = load(write(tmp_path, [{"tokens": WORDS, "tags": words}]))
    assert (data.labels.problem_type, data.labels.names) == ("tags", ("NOUN", "PUNCT", "VERB"))
    data = load(write(tmp_path, [{"tokens": WORDS, "tags": [3, 3, 7, 3, -100, 3, 10]}]))
    assert data.labels.names == ("3", "7", "10")
    assert tags_of(data) == [["3", "3", "7", "3", None, "3", "10"]]


def test_tags_of_a_class_label_keep_their_names(tmp_path):
    import datasets

    names = ["O", "B-per", "I-per"]
    tags = datasets.Sequence(datasets.ClassLabel(names=names))
    features = datasets.Features({"tokens": datasets.Sequence(datasets.Value("string")), "ner_tags": tags})
    rows = {"tokens": [WORDS] * 20, "ner_tags": [[1, 2, 0, 1, 2, 1, 0]] * 20}
    datasets.Dataset.from_dict(rows, features=features).to_parquet(tmp_path / "train.parquet")
    data = load(tmp_path / "train.parquet")
    assert data.labels.names == tuple(names)
    assert tags_of(data, "validation")[0] == BIO


CONLL = (
    "-DOCSTART- -X- O O\n\nAna NNP B-NP I-per\nLima NNP I-NP I-per\nmet VBD B-VP O\n\n# SYM O O\nRui NNP B-NP I-per\n"
)


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_conll_files_give_tokens_and_tags(end, tmp_path):
    for name in ("train.conll", "validation.conll"):
        (tmp_path / name).write_bytes(CONLL.replace("\n", end).encode())
    data = load(
        None,
        path="conll",
        data_files={"train": str(tmp_path / "train.conll"), "validation": str(tmp_path / "validation.conll")},
    )
    assert data.splits["train"]["tokens"][:] == [["Ana", "Lima", "met"], ["#", "Rui"]]
    assert tags_of(data) == [["B-per", "I-per", "O"], ["O", "B-per"]]


def test_conllu_files_give_words_and_parts_of_speech(tmp_path):
    line = "{}\t{}\t_\t{}\tX\t_\t0\troot\t_\t_\n"
    text = (
        "# text = Ana canta\n1-2\tdo"
        + "\t_" * 8
        + "\n"
        + line.format(1, "Ana", "PROPN")
        + line.format(2, "canta", "VERB")
    )
    (tmp_path / "a.conllu").write_text("\n".join([text] * 10))
    data = load(tmp_path / "a.conllu")
    assert data.splits["train"][0]["tokens"] == ["Ana", "canta"]
    assert tags_of(data)[0] == ["PROPN", "VERB"]


GOOD = {"tokens": WORDS, "tags": BIO}
PERSON = {"start": 0, "end": 8, "label": "per"}
BAD = {
    "tags missing": (
        [GOOD, {"tokens": WORDS, "tags": BIO[:5]}], None, r"train.jsonl:2: 7 tokens, but 5 tags \(so in 1 row\)",
    ),
    "a tag is null": ([GOOD, {"tokens": WORDS, "tags": [*BIO[:6], None]}], None, "train.jsonl:2: a tag is missing"),
    "tags are no list": ([{"tokens": WORDS, "tags": "O"}] * 3, None, "holds string, where a list of tags is meant"),
    "tokens are no list": ([{"tokens": "Ana met", "tags": ["O"]}] * 3, None, "holds no list of texts but"),
    "one tag alone": ([{"tokens": WORDS, "tags": ["O"] * 7}], None, "holds 'O' only: nothing to learn"),
    "unknown tag": (
        [GOOD], [{"tokens": ["Rio"], "tags": ["B-loc"]}], "validation.jsonl:1: tag 'B-loc' does not occur in train",
    ),
    "span outside": ([{"text": "Ana", "spans": [PERSON]}], None, "the span 0–8 .per. is no part"),
    "spans overlap": (
        [{"text": "Ana Lima", "spans": [PERSON, PERSON | {"start": 4}]}], None,
        "the span 4–8 .per. overlaps the one before it",
    ),
    "spans are texts": ([{"text": "Ana", "spans": ["per"]}], None, "where a list of spans is meant"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_tags_are_one_clear_error(name, tmp_path):
    train, validation, message = BAD[name]
    with pytest.raises(FinetuneError, match=message) as caught:
        load(write(tmp_path, train, validation))
    assert caught.value.hint


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("Ana B-per\nLima I-per x\n", r"a.conll:2: 3 columns, where the first line has 2"),
        ("Ana\nLima\n", "a.conll:1: 1 column, where a word and its tag are meant"),
        ("# a comment = alone\n\n", "holds no rows"),
    ],
)
def test_bad_conll_files_are_one_clear_error(content, message, tmp_path):
    (tmp_path / "a.conll").write_text(content)
    with pytest.raises(FinetuneError, match=message):
        load(tmp_path / "a.conll")
