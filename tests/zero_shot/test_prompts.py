"""Rows in words: templates, solved examples, what fits."""

import json
from dataclasses import replace

import numpy
import pytest

from finetune.errors import FinetuneError
from finetune.tasks import LabelScheme, all_tasks
from finetune.zero_shot.examples import draw_examples
from finetune.zero_shot.fitting import Fitting, with_examples
from finetune.zero_shot.prompted import open_asking, prompted
from finetune.zero_shot.wording import BETWEEN, Query, Wording

CLASSIFY, CHOOSE = all_tasks()["text-classification"], all_tasks()["multiple-choice"]
WORDS = {"bad": "awful", "good": "lovely"}


def texts_of(folder, split):
    return [json.loads(line)["text"] for line in (folder / f"{split}.jsonl").read_text().splitlines()]


def asking_of(subject, **changes):
    asking = open_asking(subject.recipe, subject.data, subject.checkpoint, subject.context)
    return replace(asking, **changes)


def prompts_of(about, tokenizer):
    """Return what is asked about each row, as text."""
    return [tokenizer.decode(row["sequences"][0]) for row in about.features]


def test_a_template_stands_around_its_answer():
    wording = Wording(CLASSIFY, "{text}\nCategory: {label}.", WORDS, ("one", "two"))
    row = {"text": "a {day}", "label": 1}
    assert wording.alone(row) == Query("a {day}\nCategory: ", ".")
    assert wording.solved(row) == "a {day}\nCategory: lovely."
    assert wording.query(row).before == BETWEEN.join(["one", "two", "a {day}\nCategory: "])
    gapless = replace(wording, template="Is this good? {text}")
    assert gapless.alone(row) == Query("Is this good? a {day}", "", has_gap=False)
    assert gapless.solved(row) == "Is this good? a {day}\nlovely"


def test_an_empty_text_takes_its_blank_along():
    wording = Wording(CHOOSE, "{context} {question} {answer}", {})
    row = {"context": None, "question": "he ate", "choices": ["soup", "iron"], "answer": 0}
    assert wording.solved(row) == "he ate soup"
    assert wording.goes_on_from == "question"
    assert Wording(CLASSIFY, "{text}\n{label}", WORDS).goes_on_from is None


def test_examples_take_the_classes_in_turn_and_depend_on_the_seed_alone():
    import datasets

    labels = LabelScheme("single_label_classification", ("a", "b", "c"))
    rows = {"text": [str(n) for n in range(60)], "label": [0] * 50 + [1] * 8 + [2] * 2, "row": list(range(1, 61))}
    train = datasets.Dataset.from_dict(rows)
    drawn = [draw_examples(train, CLASSIFY, labels, count, 7) for count in (3, 6, 9)]
    counts = [numpy.bincount([row["label"] for row in some], minlength=3).tolist() for some in drawn]
    assert counts[:2] == [[1, 1, 1], [2, 2, 2]]
    assert sorted(counts[2]) == [2, 3, 4]  # of the rarest class there are two
    assert counts[2][2] == 2
    assert {row["row"] for row in drawn[0]} <= {row["row"] for row in drawn[1]}
    assert draw_examples(train, CLASSIFY, labels, 6, 7) == drawn[1]
    assert draw_examples(train, CLASSIFY, labels, 6, 8) != drawn[1]
    assert len(draw_examples(train, CLASSIFY, labels, 99, 7)) == 60


@pytest.mark.parametrize("family", ["gpt2", "t5"])
def test_examples_come_from_the_training_rows_alone(family, subject, splits):
    asked, model = subject(family)
    tokenizer = asked.checkpoint.tokenizer
    train = set(texts_of(splits, "train"))
    others = set(texts_of(splits, "test")) | set(texts_of(splits, "validation"))
    assert not train & others
    seen = set()
    for seed in range(5):
        about = prompted(asking_of(asked, seed=seed), asked.data, asked.data.splits["test"], model, shots=4)
        assert about.facts["shots"] == 4
        first = about.features[0]
        text = tokenizer.decode(first["source"] or first["sequences"][0], skip_special_tokens=True)
        flat = "".join(text.split())
        shown = {row for row in train if "".join(row.split()) in flat}
        own = "".join(texts_of(splits, "test")[0].split())
        assert len(shown) >= 4
        assert not [row for row in others if (other := "".join(row.split())) in flat and other != own]
        seen |= shown
    assert len(seen) > 8  # another seed shows others


def test_a_repeated_seed_asks_the_same(subject):
    asked, model = subject("gpt2")
    one, same, other = (
        prompted(asking_of(asked, seed=seed), asked.data, asked.data.splits["test"], model, shots=3)
        for seed in (1, 1, 2)
    )
    assert one.facts == same.facts
    assert one.features.to_dict() == same.features.to_dict()
    assert one.facts["example_rows"] != other.facts["example_rows"]


def test_what_does_not_fit_is_cut_and_counted(opened):
    _, tokenizer, _ = opened("gpt2")
    wording = Wording(CLASSIFY, "{text} is {label}", WORDS)
    long = {"text": "lovely weather again " * 9, "label": 1, "row": 5}
    short = {"text": "awful day", "label": 0, "row": 6}

    def length(row):
        return len(tokenizer(wording.solved(row))["input_ids"])

    fitting = Fitting(tokenizer, 24, truncation=True)
    assert fitting.fit(short, wording, length) is short
    cut = fitting.fit(long, wording, length)
    assert long["text"].startswith(cut["text"])
    assert length(cut) <= 24 < length(long)
    assert fitting.cut == 1
    goes_on = Wording(CHOOSE, "{question} {answer}", {})
    row = {"question": "lovely weather again " * 9, "choices": ["day", "film"], "answer": 0}
    kept = fitting.fit(row, goes_on, lambda own: len(tokenizer(goes_on.solved(own))["input_ids"]))
    assert row["question"].endswith(kept["question"])
    shown = with_examples(wording, [long, short], Fitting(tokenizer, 60, truncation=True))
    assert all(len(tokenizer(text)["input_ids"]) <= 20 for text in shown.examples)
    assert shown.examples[1] == wording.solved(short)


def test_what_cannot_be_cut_is_an_error(opened):
    _, tokenizer, _ = opened("gpt2")
    row = {"text": "awful day", "label": 0, "row": 6}

    def length(own):
        return len(tokenizer(own["text"] + " lovely weather again" * 9)["input_ids"])

    wording = Wording(CLASSIFY, "{text} {label}", WORDS)
    with pytest.raises(FinetuneError, match="without any text of the row"):
        Fitting(tokenizer, 20, truncation=True).fit(row, wording, length)
    with pytest.raises(FinetuneError, match="row 6: its prompt is"):
        Fitting(tokenizer, 20, truncation=False).fit(row, wording, length)


def test_labels_and_columns_that_are_not_there_are_refused(subject):
    def refused(setting):
        asked, _ = subject("gpt2", setting)
        with pytest.raises(FinetuneError) as error:
            asking_of(asked)
        return f"{error.value.message} {error.value.hint}"

    assert "Did you mean good?" in refused("evaluation.prompt.label_words={goood: fine}")
    assert "have the same word" in refused("evaluation.prompt.label_words={good: fine, bad: Fine}")
    assert "{text_pair} is in no column" in refused("evaluation.prompt.template='{text} {text_pair} {label}'")
