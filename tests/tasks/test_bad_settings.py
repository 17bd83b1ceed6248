"""Settings that no task can work with, found before any weights are loaded: one clear error each."""

import json
import shutil
from dataclasses import replace

import pytest
from datasets import Dataset
from transformers import AutoConfig, AutoTokenizer

from finetune.cli.app import main
from finetune.data.encoding import encode_data
from finetune.errors import FinetuneError
from finetune.evaluation.predict import task_context
from finetune.models.generation import generation_config
from finetune.tasks import LabelScheme, all_tasks

KINDS = {"bert": "encoder-only", "gpt2": "decoder-only", "t5": "encoder-decoder", "bart": "encoder-decoder"}
CONTEXT = "what a lovely day it was"
ROWS = {
    "question-answering": {
        "question": ["what was lovely"], "context": [CONTEXT], "answers": [{"text": ["lovely"], "answer_start": [7]}],
    },
    "multiple-choice": {"question": ["what was it"], "choices": [["a day", "a meal"]], "answer": [0]},
    "token-classification": {"tokens": [CONTEXT.split()], "tags": [[0] * 6]},
    "fill-mask": {"text": [CONTEXT]},
    "text-generation": {"text": [CONTEXT]},
    "summarization": {"source": [CONTEXT], "target": [["a lovely day"]]},
    "text-classification": {"text": [CONTEXT]},
}  # fmt: skip


def encode(task, folder, max_length=64, **settings):
    """Encode a row as a run does where it is longer than the limit."""
    family = AutoConfig.from_pretrained(folder)
    labels = LabelScheme(all_tasks()[task].problem_types[0], ("O", "B-x", "I-x"))
    kind = KINDS[family.model_type]
    context = task_context(AutoTokenizer.from_pretrained(folder), labels, kind, family, max_length, settings, {})
    return all_tasks()[task].encode(ROWS[task], context)


@pytest.mark.parametrize(
    ("task", "family", "max_length", "least"),
    [
        ("question-answering", "bert", 4, 5),
        ("question-answering", "gpt2", 2, 3),
        ("multiple-choice", "bert", 4, 5),
        ("token-classification", "bert", 2, 3),
        ("fill-mask", "bert", 2, 3),
        ("summarization", "t5", 1, 2),
        ("text-classification", "bert", 2, 3),
        ("text-generation", "gpt2", 1, 2),
    ],
)
def test_a_max_length_without_room_for_a_text(task, family, max_length, least, checkpoints):
    with pytest.raises(FinetuneError, match=rf"preprocessing\.max_length: {max_length}\b.* leave") as caught:
        encode(task, checkpoints(family), max_length)
    assert f"to {least} " in caught.value.hint
    encode(task, checkpoints(family), least)


def test_a_prefix_that_fills_the_input(checkpoints):
    with pytest.raises(FinetuneError, match=r"those of preprocessing\.source_prefix, leave no room for a text"):
        encode("summarization", checkpoints("t5"), 8, source_prefix="lovely day " * 9)


def test_a_target_longer_than_the_positions(toy_recipe, tmp_path, capsys):
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps({"document": f"day {n}", "summary": "lovely"}) + "\n" for n in range(20)))
    recipe = toy_recipe("bart", task="summarization", dataset={"path": str(data)})
    assert main(["run", str(recipe), "preprocessing.max_target_length=65"]) == 1
    assert "preprocessing.max_target_length: 65 is more than the 64 positions" in capsys.readouterr().err


def test_hidden_words_need_a_fast_tokenizer(checkpoints):
    class Slow:
        is_fast, mask_token = False, "[MASK]"

    context = task_context(Slow(), LabelScheme("masked_lm"), "encoder-only", None, None, {"whole_word_mask": True}, {})
    with pytest.raises(FinetuneError, match=r"is slow \(no tokenizer.json\), and .* which tokens are one word"):
        all_tasks()["fill-mask"].encode(ROWS["fill-mask"], context)


@pytest.mark.parametrize("task", ["question-answering", "token-classification", "multiple-choice"])
def test_characters_of_tokens_need_a_fast_tokenizer(task):
    class Slow:
        is_fast = False

    context = task_context(Slow(), LabelScheme(""), "encoder-only", None, None, {}, {})
    with pytest.raises(FinetuneError, match=r"is slow .* which characters each token covers"):
        all_tasks()[task].encode({}, context)


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"forced_eos_token_id": 99_999}, "generation.forced_eos_token_id: there is no token 99999"),
        ({"suppress_tokens": [1, 99_999]}, "generation.suppress_tokens: there is no token 99999"),
        ({"bad_words_ids": [[1], [2, 99_999]]}, "generation.bad_words_ids: there is no token 99999"),
        ({"max_length": 1}, "generation.max_length: 1 is the token that a text starts with"),
        ({"top_k": 5}, "generation.top_k: has no effect without generation.do_sample: true"),
        ({"early_stopping": True}, "generation.early_stopping: has no effect without generation.num_beams: 2 or more"),
    ],
)
def test_settings_of_generation_that_the_checkpoint_cannot_follow(wanted, message, checkpoints):
    folder = checkpoints("t5")
    config, tokenizer = AutoConfig.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    with pytest.raises(FinetuneError) as caught:
        generation_config(str(folder), None, config, tokenizer, wanted, {})
    assert caught.value.message.startswith(message)


def test_weights_for_the_types_of_spans_cannot_be_balanced(toy_recipe, tmp_path, capsys):
    data = tmp_path / "rows.jsonl"
    rows = [{"text": "Ana sees", "spans": [{"start": 0, "end": 3, "label": "person"}]}] * 20
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = toy_recipe(task="token-classification", dataset={"path": str(data)})
    assert main(["run", str(recipe), "training.class_weights=balanced", "--dry-run"]) == 1
    assert "balanced counts the tags of tokens, and the data has spans" in capsys.readouterr().err


def changed_tokenizer(source, folder, **settings):
    """Copy a checkpoint with another tokenizer_config.json; None takes a setting out."""
    shutil.copytree(source, folder)
    path = folder / "tokenizer_config.json"
    told = {**json.loads(path.read_text()), **settings}
    path.write_text(json.dumps({name: value for name, value in told.items() if value is not None}))
    return folder


def test_rows_of_the_cache_are_not_those_of_another_chat_template_or_without_a_mask(checkpoints, tmp_path):
    def encoded(task, folder, rows):
        config = AutoConfig.from_pretrained(folder)
        tokenizer = AutoTokenizer.from_pretrained(folder)
        labels = LabelScheme(all_tasks()[task].problem_types[0])
        context = task_context(tokenizer, labels, KINDS[config.model_type], config, 64, {}, {})
        form = next(f for f in (all_tasks()[task].columns, *all_tasks()[task].forms) if f[0].role in rows)
        told = replace(all_tasks()[task], columns=form, forms=())
        split = Dataset.from_dict({**rows, "row": [1]})
        return encode_data({"train": split}, told, context, 1, tmp_path / "cache").splits["train"]["input_ids"][:]

    talk = {"messages": [[{"role": "user", "content": "a day"}, {"role": "assistant", "content": "lovely"}]]}
    template = "{% for message in messages %}{{ message.role }}: {{ message.content }}{{ eos_token }}{% endfor %}"
    chat = changed_tokenizer(checkpoints("gpt2"), tmp_path / "chat", chat_template=template)
    other = changed_tokenizer(checkpoints("gpt2"), tmp_path / "other", chat_template=template.replace(": ", " > "))
    assert encoded("text-generation", chat, talk) != encoded("text-generation", other, talk)
    with pytest.raises(FinetuneError, match="no chat template"):
        encoded("text-generation", checkpoints("gpt2"), talk)
    encoded("fill-mask", checkpoints("bert"), {"text": [CONTEXT]})
    bare = changed_tokenizer(checkpoints("bert"), tmp_path / "bare", mask_token=None)
    with pytest.raises(FinetuneError, match="no mask token"):
        encoded("fill-mask", bare, {"text": [CONTEXT]})
