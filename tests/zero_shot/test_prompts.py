"""Rows in words: templates, solved examples, what fits."""

import json
from dataclasses import replace

import numpy
import pytest

from finetune.errors import FinetuneError
from finetune.tasks import LabelScheme, all_tasks
from finetune.zero_shot import prompted as zero_shot
from finetune.zero_shot.choosing import features_of
from finetune.zero_shot.examples import draw_examples
from finetune.zero_shot.fitting import Fitting, with_examples
from finetune.zero_shot.prompted import open_asking, prompted
from finetune.zero_shot.wording import BETWEEN, Query, Wording

CLASSIFY, CHOOSE, ANSWER = (
    all_tasks()[name] for name in ("text-classification", "multiple-choice", "question-answering")
)
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


def test_a_question_is_shown_with_its_answer_or_with_that_there_is_none():
    wording = Wording(ANSWER, ANSWER.prompts[0], {})
    row = {"question": "who", "context": "it was I", "answers": {"text": ["I", "me"], "answer_start": [7, 0]}}
    assert wording.solved(row) == "it was I\n\nQuestion: who\nAnswer: I"
    assert wording.solved({**row, "answers": {"text": [], "answer_start": []}}).endswith("\nAnswer: unanswerable")


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
    asked = datasets.Dataset.from_dict({"text": ["another"], "label": [0], "row": [1]})

    def draw(count, seed):
        shown, passed_over = draw_examples(train, asked, CLASSIFY, labels, count, seed)
        assert passed_over == 0
        return shown

    drawn = [draw(count, 7) for count in (3, 6, 9)]
    counts = [numpy.bincount([row["label"] for row in some], minlength=3).tolist() for some in drawn]
    assert counts[:2] == [[1, 1, 1], [2, 2, 2]]
    assert sorted(counts[2]) == [2, 3, 4]  # of the rarest class there are two
    assert counts[2][2] == 2
    assert {row["row"] for row in drawn[0]} <= {row["row"] for row in drawn[1]}
    assert draw(6, 7) == drawn[1]
    assert draw(6, 8) != drawn[1]
    assert len(draw(99, 7)) == 60


def test_examples_are_never_rows_that_are_asked_about():
    import datasets

    labels = LabelScheme("single_label_classification", ("a", "b"))
    rows = [{"text": f"text {n}", "label": n % 2, "row": n + 1} for n in range(40)]
    train = datasets.Dataset.from_list(rows)
    others = datasets.Dataset.from_list([{"text": "another", "label": 0, "row": 1}])
    first, _ = draw_examples(train, others, CLASSIFY, labels, 4, 7)
    planted = datasets.Dataset.from_list([{**row, "label": 1 - row["label"], "row": 1} for row in first])
    shown, passed_over = draw_examples(train, planted, CLASSIFY, labels, 4, 7)
    assert not {row["text"] for row in shown} & {row["text"] for row in first}
    assert sorted(row["label"] for row in shown) == [0, 0, 1, 1]
    assert passed_over == 4
    choices = [{"question": "so", "choices": [f"this {n}", "that"], "answer": 0, "row": n + 1} for n in range(3)]
    [one], _ = draw_examples(
        datasets.Dataset.from_list(choices), datasets.Dataset.from_list(choices[:2]), CHOOSE,
        LabelScheme("multiple_choice"), 2, 7,
    )  # fmt: skip
    assert one == {**choices[2], "row": 3}
    nothing, passed_over = draw_examples(train, train, CLASSIFY, labels, 4, 7)
    assert (nothing, passed_over) == ([], 40)


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


@pytest.mark.parametrize(("family", "said"), [("bert", "[MASK]"), ("t5", "<extra_id_0>"), ("gpt2", "<|endoftext|>")])
def test_a_special_token_in_a_text_is_read_as_its_characters(family, said, subject, splits, tmp_path):
    for split in ("train", "validation", "test"):
        rows = [json.loads(line) for line in (splits / f"{split}.jsonl").read_text().splitlines()]
        told = "".join(json.dumps({**row, "text": f"{said} {row['text']} {said}"}) + "\n" for row in rows)
        (tmp_path / f"{split}.jsonl").write_text(told)
    asked, model = subject(family, f"dataset.path={tmp_path}")
    plain, _ = subject(family)
    [special] = asked.checkpoint.tokenizer.convert_tokens_to_ids([said])
    counts = []
    for each in (asked, plain):
        about = prompted(asking_of(each), each.data, each.data.splits["test"], model, shots=2)
        read = [row["source"] or row["sequences"][0] for row in about.features]
        counts.append([ids.count(special) for ids in read])
    assert counts[0] == counts[1]
    assert set(counts[0]) == {0 if family == "gpt2" else 1}  # the gap


def test_what_says_nothing_is_the_same_characters_to_every_model(subject, monkeypatch):
    asked, model = subject("bert", "evaluation.prompt.calibrate=true")
    asking, seen = asking_of(asked), []
    monkeypatch.setattr(zero_shot, "features_of", lambda rows: seen.extend(rows) or features_of(rows))
    zero_shot._prior(asking, asking.wording, model)
    tokenizer = asked.checkpoint.tokenizer
    assert [row.sequences[0].count(tokenizer.mask_token_id) for row in seen] == [1, 1, 1]
    assert tokenizer.tokenize("[ MASK]")[1:] == tokenizer.tokenize("MASK]")  # as six characters would be


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
