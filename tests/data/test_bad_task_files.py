"""Bad data of every task beyond text-classification: one clear error each, with the place and what to do."""

import json

import pytest

from finetune.data.sources import load_data
from finetune.errors import FinetuneError
from finetune.recipe.schema import Recipe
from finetune.tasks import all_tasks

QA, MC, TC, TG = "question-answering", "multiple-choice", "token-classification", "text-generation"
CONTEXT = "what a lovely day it was"


def question(text=("lovely",), start=(7,), **changes):
    answers = {"text": list(text), "answer_start": list(start)}
    return {"question": "what was lovely", "context": CONTEXT, "answers": answers, **changes}


def choice(choices=("red", "blue", "green"), answer=1, **changes):
    return {"question": "which one", "choices": choices, "answer": answer, **changes}


def arc(labels, answer="A"):
    return {"question": "which one", "choices": {"text": ["red", "blue"], "label": labels}, "answerKey": answer}


def tagged(*tags, tokens=("see", "Ana")):
    return {"tokens": tokens, "tags": tags or ("O", "B-PER")}


def spans(*found, text="Ana sees Rio"):
    return {"text": text, "spans": list(found)}


def span(start=0, end=3, label="PER"):
    return {"start": start, "end": end, "label": label}


def talk(*messages):
    return {"messages": [dict(zip(("role", "content"), message, strict=True)) for message in messages]}


def squad(*questions, **paragraph):
    whole = {"context": CONTEXT, "qas": list(questions), **paragraph}
    return json.dumps({"data": [{"title": "days", "paragraphs": [whole]}]})


def asked(answers=({"text": "lovely", "answer_start": 7},), **changes):
    return {"id": "1", "question": "what was lovely", "answers": list(answers), **changes}


QUESTIONS, CHOICES = [question()] * 20, [choice(answer=n % 3) for n in range(20)]
LETTERS = [choice(answer="ABC"[n % 3]) for n in range(20)]
TAGGED, SPANS = [tagged(), tagged("O", "O")] * 10, [spans(span())] * 20
TALKS = [talk(("user", "hi"), ("assistant", "hello"))] * 20
CONLL = "Ana B-PER\nsees O\n\n" * 20
OTHER_TASK = "The columns are those of another task: task: "

# name: (task, file, rows or text, words of the message, words of the hint)
BAD = {
    # question-answering
    "columns of multiple-choice": (
        QA, "a.jsonl", CHOICES, ["a.jsonl", "no column is named as a context", "'choices'"], OTHER_TASK + MC,
    ),
    "forty choices and a context": (
        QA, "a.jsonl", [choice([f"c{n}" for n in range(40)], 3, context=CONTEXT)] * 20,
        ["column 'answer' (for answers) holds int64", "answers with their places"], OTHER_TASK + MC,
    ),
    "an answer that is a text": (
        QA, "a.jsonl", [question(answers="lovely")] * 20, ["column 'answers'", "holds string"], '"answer_start": [42]',
    ),
    "answers without places": (
        QA, "a.jsonl", [question(answers={"text": ["lovely"]})] * 20, ["struct<text", "their places"], "answer_start",
    ),
    "answers that stand nowhere": (
        QA, "a.jsonl", [question(["unseen"])] * 20,
        ["a.jsonl:1", "'unseen' stands nowhere", "in 20 of 20 rows of split train"], "counts characters from 0",
    ),
    "a place in quotes": (
        QA, "a.jsonl", [*QUESTIONS[:1], *[question(start=["7"])] * 19],
        ["a.jsonl:2", "'answers'", "do not fit one type"], "same type",
    ),
    "places in quotes": (
        QA, "a.jsonl", [question(start=["7"])] * 20, ["a.jsonl:1", "answer_start holds '7', where a whole number"],
        '"answer_start": [42]',
    ),
    "places with a decimal point": (
        QA, "a.jsonl", [question(start=[7.0])] * 20, ["a.jsonl:1", "answer_start holds 7.0"], '"answer_start": [42]',
    ),
    "two texts and one place": (
        QA, "a.jsonl", [question(["lovely", "day"])] * 20, ["a.jsonl:1", "2 answer texts and 1 answer start"], "[42]",
    ),
    "no answer anywhere": (
        QA, "a.jsonl", [question([], [])] * 20, ["no question of split train has an answer", "nothing to learn"],
        "Add questions with answers",
    ),
    "no answers given": (
        QA, "a.jsonl", [*QUESTIONS, *[question(answers=None)] * 5],
        ["a.jsonl:21", "no answers", "in 5 of 25 rows of split train"], "give them their answers",
    ),
    "contexts in lists": (
        QA, "a.jsonl", [question(context=[CONTEXT])] * 20, ["a.jsonl:1", "column 'context'", "list<"], "as strings",
    ),
    "SQuAD without questions": (
        QA, "a.json", squad(qas=None), ["article 1, paragraph 1", "qas is no list"], '"paragraphs"',
    ),
    "SQuAD without a context": (
        QA, "a.json", squad(asked(), context=None), ["article 1, paragraph 1", "context is no text"], '"context"',
    ),
    "SQuAD with paragraphs that are a text": (
        QA, "a.json", '{"data": [{"paragraphs": "none"}]}', ["article 1", "paragraphs is no list"], '"paragraphs"',
    ),
    "SQuAD whose second article is broken": (
        QA, "a.json", json.dumps({"data": [json.loads(squad(asked()))["data"][0], {"title": "x"}]}),
        ["article 2", "paragraphs is no list"], '"paragraphs"',
    ),
    "SQuAD whose data is an object": (
        QA, "a.json", '{"version": "1.1", "data": {"title": "days"}}', ["data is an object, not a list"], '"data"',
    ),
    "SQuAD with answers as columns": (
        QA, "a.json", squad({**asked(), "answers": {"text": ["lovely"]}}), ["question 1", "answers is no list"], "qas",
    ),
    "SQuAD without a place": (
        QA, "a.json", squad(asked(), asked([{"text": "lovely"}])), ["question 2", "no answer_start"], '"answers"',
    ),
    "SQuAD 2 impossible with an answer": (
        QA, "a.json", squad(asked(), asked(is_impossible=True)),
        ["article 1, paragraph 1, question 2", "is_impossible is true, but it has 1 answer"], "plausible_answers",
    ),
    "SQuAD 2 possible without an answer": (
        QA, "a.json", squad(*[asked()] * 3, asked([], is_impossible=False)),
        ["row 4", "no answers", "in 1 of 4 rows"], "give them their answers",
    ),
    # token-classification
    "more tags than tokens": (
        TC, "a.jsonl", [*TAGGED, tagged("O", "O", "O")], ["a.jsonl:21", "2 tokens, but 3 tags", "1 row"], "one tag",
    ),
    "tags in lists of lists": (
        TC, "a.jsonl", [tagged(["O"], ["B-PER"])] * 20, ["column 'tags' holds list<", "one tag a token"], '"PROPN"',
    ),
    "tags in one text": (TC, "a.jsonl", [{**tagged(), "tags": "O O"}] * 20, ["'tags' holds string"], '"PROPN"'),
    "a tag that is missing": (TC, "a.jsonl", [*TAGGED, tagged("O", None)], ["a.jsonl:21", "a tag is missing"], "one"),
    "only O": (TC, "a.jsonl", [tagged("O", "O")] * 20, ["holds 'O' only", "nothing to learn"], "another column"),
    "tokens in one text": (
        TC, "a.jsonl", [tagged(tokens="see Ana")] * 20, ["a.jsonl:1", "'tokens'", "no list of texts"], "lists of texts",
    ),
    "lists in a csv": (
        TC, "a.csv", "tokens,tags\n" + "\"['a', 'b']\",\"['O', 'B-X']\"\n" * 20, ["a.csv:2", "no list"], "jsonl",
    ),
    "tags for tokens": (
        TC, "a.conll", "B-PER Ana\nO sees\nO it\nO all\n\n" * 20,
        ["the tokens are tags (B-PER and O)", "'tags' holds the words"], "the word stands first",
    ),
    "a span beyond the text": (
        TC, "a.jsonl", [*SPANS, spans(span(9, 40))], ["a.jsonl:21", "9–40 (PER) is no part", "12 characters"], "from 0",
    ),
    "a span that ends before it begins": (
        TC, "a.jsonl", [*SPANS, spans(span(3, 0))], ["a.jsonl:21", "3–0 (PER) is no part"], "from 0",
    ),
    "spans that overlap": (
        TC, "a.jsonl", [*SPANS, spans(span(), span(1, 5))], ["a.jsonl:21", "1–5 (PER) overlaps"], "one entity only",
    ),
    "a span of a blank": (TC, "a.jsonl", [*SPANS, spans(span(3, 4))], ["a.jsonl:21", "holds no word"], "from 0"),
    "a span without an end": (
        TC, "a.jsonl", [*SPANS, spans(span(end=None))], ["a.jsonl:21", "the end of a span is missing"], '"end": 3',
    ),
    "a span without a type": (
        TC, "a.jsonl", [*SPANS, spans(span(label=None))], ["a.jsonl:21", "the label of a span is missing"], "person",
    ),
    "spans in quotes": (
        TC, "a.jsonl", [spans(span("0", "3"))] * 20, ["a.jsonl:1", "the start of a span is '0'"], '"start": 0',
    ),
    "spans with another key": (
        TC, "a.jsonl", [spans({"start": 0, "end": 3, "entity": "PER"})] * 20, ["'spans' holds list<"], '"label"',
    ),
    "no span at all": (TC, "a.jsonl", [spans()] * 20, ["holds no span in any row"], "another column"),
    "a conll line with a column more": (
        TC, "a.conll", CONLL + "Rio B-LOC x\n", ["a.conll:61", "3 columns, where the first line has 2"], "blank line",
    ),
    "a conll file of words": (TC, "a.conll", "Ana\nsees\n\n" * 20, ["a.conll:1", "a word and its tag"], "tab or blank"),
    "a conll file without sentences": (
        TC, "a.conll", "Ana B-PER\nsees O\n" * 200, ["all 400 words are one sentence"], "blank line",
    ),
    "a conll file that ends in txt": (TC, "a.txt", CONLL, ["a.txt", "no column"], "ending .conll"),
    "columns of text-classification": (
        TC, "a.jsonl", [{"text": "a b", "label": n % 2} for n in range(20)], ["'text', 'label'"],
        OTHER_TASK + "text-classification",
    ),
    # multiple-choice
    "one choice": (MC, "a.jsonl", [*CHOICES, choice(["red"], 0)], ["a.jsonl:21", "1 choice", "at least two"], "remove"),
    "a choice that is empty": (
        MC, "a.jsonl", [*CHOICES, choice(["red", ""], 0)], ["a.jsonl:21", "2 choices, one of them empty"], "Correct",
    ),
    "a letter beyond the choices": (
        MC, "a.jsonl", [*LETTERS, choice(answer="D")], ["a.jsonl:21", "'D' is none of the 3 choices"], "(A, B, …)",
    ),
    "a number beyond the choices": (
        MC, "a.jsonl", [*CHOICES, choice(answer=7)], ["a.jsonl:21", "7 is none of the 3 choices"], "(0, 1, …)",
    ),
    "half a choice": (MC, "a.jsonl", [choice(answer=1.5)] * 20, ["a.jsonl:1", "1.5 names no choice"], "as its text"),
    "choices in one text": (
        MC, "a.jsonl", [choice("red|blue")] * 20, ["a.jsonl:1", "no list of choices but string"], '["a", "b"]',
    ),
    "choices as objects": (
        MC, "a.jsonl", [choice([{"text": "red"}, {"text": "blue"}])] * 20, ["a.jsonl:1", "list<"], "as ARC has them",
    ),
    "ARC with labels missing": (MC, "a.jsonl", [arc(["A"])] * 20, ["a.jsonl:1", "2 choices with the labels A"], "A, B"),
    "ARC with labels out of order": (
        MC, "a.jsonl", [*[arc(["A", "B"])] * 9, arc(["B", "A"])], ["a.jsonl:10", "with the labels B and A"], "in order",
    ),
    "one column of choices": (
        MC, "a.jsonl", [{"question": "a", "ending0": "b", "label": 0}] * 20, ["is named as a choice_2"], "Say",
    ),
    "columns of question-answering": (
        MC, "a.jsonl", QUESTIONS, ["no column is named as an answer usually is"], OTHER_TASK + QA,
    ),
    # text-generation and texts for texts
    "prompts without completions": (
        TG, "a.jsonl", [{"prompt": "a b"}] * 20, ["no column is named as a completion usually is"], "completion: …",
    ),
    "completions without prompts": (
        TG, "a.jsonl", [{"completion": "a b"}] * 20, ["no column is named as a prompt usually is"], "prompt: …",
    ),
    "completions that are empty": (
        TG, "a.jsonl", [{"prompt": "a", "completion": " "}] * 20, ["a.jsonl:1", "no completion", "20 of 20"], "give",
    ),
    "messages of an unknown role": (
        TG, "a.jsonl", [*TALKS, talk(("user", "hi"), ("bot", "hello"))], ["a.jsonl:21", "the role 'bot'"],
        "who answers is the assistant",
    ),
    "messages of a misspelt role": (
        TG, "a.jsonl", [talk(("user", "hi"), ("Assistant", "hello"))] * 20, ["a.jsonl:1", "'Assistant'"],
        "Did you mean assistant?",
    ),
    "messages without a role": (
        TG, "a.jsonl", [*TALKS, talk((None, "hi"), ("assistant", "hello"))], ["a.jsonl:21", "has no role"], "Write",
    ),
    "messages without an answer": (
        TG, "a.jsonl", [talk(("user", "hi"))] * 20, ["a.jsonl:1", "no message of the assistant", "20 of 20"], "add",
    ),
    "messages of ShareGPT": (
        TG, "a.jsonl", [{"conversations": [{"from": "human", "value": "hi"}]}] * 20, ["a.jsonl:1", "no messages but"],
        '"role": "user"',
    ),
    "targets that are empty": (
        "summarization", "a.jsonl", [{"document": "a b", "summary": ""}] * 20, ["a.jsonl:1", "no target", "20 of 20"],
        "give them their target",
    ),
    "targets that are objects": (
        "summarization", "a.jsonl", [{"document": "a b", "summary": {"x": "y"}}] * 20, ["'summary' (for target)"],
        "Write texts as strings",
    ),
    "two languages in one column": (
        "translation", "a.jsonl", [{"translation": {"en": "a", "pt": "b"}}] * 20, ["no column is named as a source"],
        "{source: translation.en, target: translation.pt}",
    ),
    "no header": (
        "summarization", "a.csv", "".join(f"this is a long document {n},short {n}\n" for n in range(20)),
        ["a.csv:1", "looks like a row"], "1i source,target",
    ),
    "nothing to hide words in": ("fill-mask", "a.jsonl", [{"label": 1}] * 20, ["is named as a text"], "text:"),
}  # fmt: skip


def load(folder, task, file, content, **section):
    text = content if isinstance(content, str) else "".join(json.dumps(row) + "\n" for row in content)
    (folder / file).write_text(text)
    data = {"path": str(folder / file), **section}
    return load_data(
        Recipe.model_validate({"task": task, "model": {"name_or_path": "a"}, "dataset": data}), all_tasks()[task]
    )


@pytest.mark.parametrize("name", BAD)
def test_bad_data_of_a_task_is_one_clear_error(name, tmp_path):
    task, file, content, message, hint = BAD[name]
    with pytest.raises(FinetuneError) as caught:
        load(tmp_path, task, file, content)
    assert [words for words in message if words not in caught.value.message] == [], caught.value.message
    assert hint in caught.value.hint
    assert len(caught.value.message.splitlines()) == 1


@pytest.mark.parametrize("tag", ["B-LOC", "7"])
def test_a_tag_that_train_lacks_is_named_with_its_row(tag, tmp_path):
    (tmp_path / "validation.jsonl").write_text(json.dumps(tagged()) + "\n" + json.dumps(tagged("O", tag)) + "\n")
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in TAGGED))
    with pytest.raises(FinetuneError) as caught:
        load(tmp_path, TC, "train.jsonl", TAGGED, path=str(tmp_path))
    assert f"validation.jsonl:2: tag '{tag}' does not occur in train" in caught.value.message
    assert "train has O, B-PER and I-PER" in caught.value.message


def test_what_can_be_read_in_one_way_is_read_and_said(tmp_path):
    mixed = load(
        tmp_path, TC, "a.jsonl", [tagged("O", "S-PER"), tagged("L-PER", "U-PER"), tagged("B-PER", "E-PER")] * 8
    )
    assert "The tags are IOBES and BILOU mixed; they were written as BIO." in mixed.notes
    near = load(tmp_path, TC, "b.jsonl", [tagged("O", "B_PER"), tagged("O", "I_PER")] * 8)
    assert any("B_PER" in note and "are written O, B-PER and I-PER" in note for note in near.notes)
    parts = load(tmp_path, TC, "c.jsonl", [tagged("O", "NOUN"), tagged("O", "VERB")] * 8)
    assert not any("B-PER" in note for note in parts.notes)
    one = load(tmp_path, TG, "d.jsonl", [*TALKS, *TALKS, talk(("user", "hi"))])
    assert any("1 row without text dropped" in note and "d.jsonl:41" in note for note in one.notes)
    six = load(tmp_path, MC, "e.jsonl", [
        {"question": "a", **{f"option{n}": f"x{n}" for n in range(1, 7)}, "answer": n % 6} for n in range(20)
    ])  # fmt: skip
    assert {answer for name in six.splits for answer in six.splits[name]["answer"]} == set(range(6))
