"""finetune.tasks.text_generation: what is counted, the loss, perplexity, generation, and runs from end to end."""

import json
import math
from dataclasses import replace
from itertools import pairwise

import numpy
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, pipeline

from finetune.cli.app import main
from finetune.data.batching import collate
from finetune.errors import FinetuneError
from finetune.tasks import Context, LabelScheme
from finetune.tasks.text_generation import TASK, formulas, measure, reference
from tests import tiny

SCHEME = LabelScheme("causal_lm")
FAMILIES = ("openai-gpt", "gpt2", "gpt_neo", "opt", "llama", "qwen3")
TEMPLATE = (
    "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}{% if m['role'] == 'assistant' %}<|endoftext|>"
    "{% endif %}\n{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
)
MARKED = (
    "{% for m in messages %}<{{ m['role'] }}>{% if m['role'] == 'assistant' %}{% generation %}{{ m['content'] }}"
    "<|endoftext|>{% endgeneration %}{% else %}{{ m['content'] }}{% endif %}\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
TALK = [
    {"role": "user", "content": "what a day"},
    {"role": "assistant", "content": "lovely"},
    {"role": "user", "content": "and her answer"},
    {"role": "assistant", "content": "charming"},
]


def context_of(folder, max_length=64, **options):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    if tokenizer.pad_token is None:
        tokenizer.add_special_tokens({"pad_token": tokenizer.eos_token or "<pad>"})
    return Context(tokenizer, SCHEME, "decoder-only", max_length, **options)


def counted(context, encoded, place=0):
    """Return the tokens that count, as text."""
    return context.tokenizer.decode([label for label in encoded["labels"][place] if label != -100])


@pytest.mark.parametrize("family", ["openai-gpt", "gpt2", "opt"])
def test_a_text_counts_whole_and_ends(family, checkpoints):
    context = context_of(checkpoints(family))
    [ids], [labels] = (
        TASK.encode({"text": ["lovely weather again"]}, context)[name] for name in ("input_ids", "labels")
    )
    own = context.tokenizer("lovely weather again")["input_ids"]
    end = [] if context.tokenizer.eos_token_id is None else [context.tokenizer.eos_token_id]
    assert ids == own + end
    assert labels == [-100, *ids[1:]]


def test_a_long_text_goes_on_in_blocks_and_each_token_counts_once(checkpoints):
    context = context_of(checkpoints("gpt2"), max_length=7)
    texts = ["lovely", "what a charming day it was and we came home late"]
    whole = TASK.encode({"text": texts}, Context(**{**vars(context), "truncation": False}))
    encoded = TASK.encode({"text": texts}, context)
    assert len(encoded["source"]) > 2
    assert encoded["source"] == sorted(encoded["source"])
    for source in (0, 1):
        blocks = [ids for ids, of in zip(encoded["input_ids"], encoded["source"], strict=True) if of == source]
        labels = [row for row, of in zip(encoded["labels"], encoded["source"], strict=True) if of == source]
        assert max(map(len, blocks)) <= 7
        assert all(first[-1] == second[0] for first, second in pairwise(blocks))
        assert [label for row in labels for label in row if label != -100] == whole["input_ids"][source][1:]


def test_a_long_text_of_a_stream_is_cut(checkpoints):
    context = context_of(checkpoints("gpt2"), max_length=7, single=True)
    encoded = TASK.encode({"text": ["what a charming day it was and we came home late"]}, context)
    assert encoded["source"] == [0]
    assert encoded["labels"][0][1:] == encoded["input_ids"][0][1:]
    assert context.tokenizer.decode(encoded["input_ids"][0]).startswith("what a charming")


def test_of_prompt_and_completion_the_completion_counts(checkpoints):
    context = context_of(checkpoints("gpt2"))
    rows = {"prompt": ["her answer sounded"], "completion": [" charming"]}
    encoded = TASK.encode(rows, context)
    assert context.tokenizer.decode(encoded["input_ids"][0]) == "her answer sounded charming<|endoftext|>"
    assert counted(context, encoded) == " charming<|endoftext|>"
    assert "labels" not in TASK.encode({"prompt": rows["prompt"]}, Context(**{**vars(context), "predicting": True}))


def test_a_long_prompt_loses_its_beginning_and_a_long_completion_its_end(checkpoints):
    context = context_of(checkpoints("gpt2"), max_length=8)
    long = TASK.encode({"prompt": ["what a day " * 9], "completion": [" lovely"]}, context)
    assert len(long["input_ids"][0]) == 8
    assert counted(context, long) == " lovely<|endoftext|>"
    end = TASK.encode({"prompt": ["what a day"], "completion": [" lovely bright day" * 9]}, context)
    assert len(end["input_ids"][0]) == 8
    assert counted(context, end).startswith(" lovely bright")
    assert sum(label != -100 for label in end["labels"][0]) == 7


@pytest.mark.parametrize("template", [TEMPLATE, MARKED], ids=["plain", "marked"])
def test_of_messages_the_answers_count(template, checkpoints):
    context = context_of(checkpoints("gpt2"), max_length=None)
    context.tokenizer.chat_template = template
    encoded = TASK.encode({"messages": [TALK, TALK[:2]]}, context)
    expected = context.tokenizer.apply_chat_template(TALK, tokenize=False)
    assert context.tokenizer.decode(encoded["input_ids"][0]) == expected
    assert counted(context, encoded) == "lovely<|endoftext|>charming<|endoftext|>"
    assert counted(context, encoded, 1) == "lovely<|endoftext|>"


def test_messages_need_a_chat_template_that_they_fit(checkpoints):
    context = context_of(checkpoints("gpt2"))
    with pytest.raises(FinetuneError, match="has no chat template"):
        TASK.encode({"messages": [TALK]}, context)
    context.tokenizer.chat_template = "{{ raise_exception('roles must alternate') }}"
    with pytest.raises(FinetuneError, match=r"roles must alternate.*user, assistant"):
        TASK.encode({"messages": [TALK]}, context)
    context.tokenizer.chat_template = "{{ messages | length }}{% for m in messages %}{{ m['content'] }}{% endfor %}"
    with pytest.raises(FinetuneError, match="in another way than the last"):
        TASK.encode({"messages": [TALK]}, context)


def test_loss_equals_transformers_and_adds_up_over_any_split(checkpoints):
    model = AutoModelForCausalLM.from_pretrained(checkpoints("gpt2"))
    context = context_of(checkpoints("gpt2"))
    texts = [row["text"] for row in tiny.toy_rows()[:6]]
    features = TASK.encode({"text": texts}, context)

    def parts(rows):
        some = {name: [values[row] for row in rows] for name, values in features.items()}
        batch = collate(some, context.tokenizer, 64, "cpu", TASK.pads)
        with torch.no_grad():
            outputs = TASK.ask(model, batch, context)
        return float(TASK.loss(outputs, batch, context)), float(TASK.loss_weight(batch, context)), outputs, batch

    loss, weight, outputs, batch = parts(range(6))
    expected = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], labels=batch["labels"]).loss
    assert loss / weight == pytest.approx(float(expected), rel=1e-5)
    cut = numpy.sum([parts(rows)[:2] for rows in ([0], [1, 2, 3], [4, 5])], axis=0)
    assert cut == pytest.approx([loss, weight], rel=1e-5)
    kept = TASK.reduce(outputs, batch, context)
    assert kept["loss"].sum() == pytest.approx(loss, rel=1e-5)
    assert kept["tokens"].sum() == weight


def test_a_real_end_of_text_counts_where_padding_is_the_same_token(checkpoints):
    context = context_of(checkpoints("gpt2"))
    assert context.tokenizer.pad_token_id == context.tokenizer.eos_token_id
    encoded = TASK.encode({"text": ["lovely<|endoftext|>day", "what a lovely cheerful day it was"]}, context)
    batch = collate(encoded, context.tokenizer, 64, "cpu", TASK.pads)
    end = context.tokenizer.eos_token_id
    assert (batch["labels"][0] == end).sum() == 2
    assert TASK.loss_weight(batch, context) == sum(len(ids) - 1 for ids in encoded["input_ids"])


def test_padding_stands_right_whatever_the_tokenizer_says(checkpoints):
    context = context_of(checkpoints("gpt2"))
    encoded = TASK.encode({"text": ["lovely", "what a lovely cheerful day it was"]}, context)
    right = collate(encoded, context.tokenizer, 64, "cpu", TASK.pads)
    context.tokenizer.padding_side = "left"
    left = collate(encoded, context.tokenizer, 64, "cpu", TASK.pads)
    assert all(torch.equal(right[name], left[name]) for name in right)


def test_perplexity_is_that_of_the_mean_token():
    scores = formulas(SCHEME)
    sums = numpy.array([4.0, 1.0, 4 * math.log(7)])
    assert scores["perplexity"](sums) == pytest.approx(7)
    assert scores["accuracy"](sums) == 0.25
    assert numpy.isinf(scores["perplexity"](numpy.array([1.0, 0.0, 1e6])))


@pytest.mark.parametrize("family", FAMILIES)
def test_generation_in_a_batch_equals_one_by_one(family, checkpoints):
    context = context_of(checkpoints(family), predicting=True)
    model = AutoModelForCausalLM.from_pretrained(checkpoints(family)).eval()
    model.generation_config.update(max_new_tokens=6, pad_token_id=context.tokenizer.pad_token_id)
    model.resize_token_embeddings(len(context.tokenizer))
    prompts = ["lovely", "what a charming day", "her answer sounded"]

    def said(texts):
        batch = collate(TASK.encode({"text": texts}, context), context.tokenizer, 64, "cpu", TASK.pads)
        return TASK.reduce(TASK.ask(model, batch, context), batch, context)["prediction"]

    def reference(text):
        asked = context.tokenizer(text, return_tensors="pt")
        options = {"max_new_tokens": 6, "do_sample": False, "pad_token_id": context.tokenizer.pad_token_id}
        [ids] = model.generate(input_ids=asked["input_ids"], attention_mask=asked["attention_mask"], **options)
        return context.tokenizer.decode(ids[asked["input_ids"].shape[1] :], skip_special_tokens=True)

    assert said(prompts) == [said([prompt])[0] for prompt in prompts] == [reference(prompt) for prompt in prompts]


def test_what_is_written_for_scores_is_what_predict_writes(checkpoints):
    context = context_of(checkpoints("gpt2"), max_length=24, writes=True)
    model = AutoModelForCausalLM.from_pretrained(checkpoints("gpt2")).eval()
    model.generation_config.update(max_new_tokens=6, pad_token_id=context.tokenizer.pad_token_id)
    prompts = ["lovely", "what a charming day " * 5, "her answer sounded"]
    encoded = TASK.encode({"prompt": prompts, "completion": [" bright"] * 3}, context)
    batch = collate(encoded, context.tokenizer, 24, "cpu", TASK.pads)
    with torch.no_grad():
        outputs = TASK.ask(model, batch, context)
        plain = TASK.ask(model, {name: batch[name] for name in batch if name != "asked"}, context)
        unlabelled = TASK.ask(model, {name: batch[name] for name in batch if name != "labels"}, context)
    assert not hasattr(outputs, "logits")
    kept, sums = TASK.reduce(outputs, batch, context), TASK.reduce(plain, batch, context)
    assert all((kept[name] == sums[name]).all() for name in sums)
    assert float(TASK.loss(outputs, batch, context)) == pytest.approx(float(TASK.loss(plain, batch, context)))
    asking = replace(context, predicting=True, writes=False)
    asked = collate(TASK.encode({"prompt": prompts}, asking), context.tokenizer, 24, "cpu", TASK.pads)
    said = TASK.reduce(TASK.ask(model, asked, asking), asked, asking)["prediction"]
    assert kept["prediction"] == TASK.reduce(unlabelled, batch, context)["prediction"] == said


def test_of_a_conversation_the_last_answer_is_asked_for_and_compared(checkpoints):
    context = context_of(checkpoints("gpt2"), max_length=None, writes=True)
    context.tokenizer.chat_template = TEMPLATE
    open_end = [*TALK, {"role": "user", "content": "what"}]
    encoded = TASK.encode({"messages": [TALK, open_end, TALK[:1]]}, context)
    asked = [context.tokenizer.decode(ids) for ids in encoded["asked"]]
    assert (
        asked[0]
        == asked[1]
        == context.tokenizer.apply_chat_template(TALK[:3], tokenize=False, add_generation_prompt=True)
    )
    assert [reference({"messages": talk}) for talk in (TALK, open_end, TALK[:1])] == ["charming", "charming", ""]
    answers = {"prediction": "charming", "tokens": 1.0, "correct": 1.0, "loss": 0.5}
    sums = numpy.sum([measure(answers, {"messages": talk}, context) for talk in (TALK, TALK[:1])], axis=0)
    assert formulas(SCHEME)["exact_match"](sums) == 1.0  # a conversation without an answer is not counted


@pytest.fixture
def asked_data(tmp_path):
    """Return a folder of the toy rows as prompts, completed by their label."""
    folder = tmp_path / "asked"
    folder.mkdir()
    rows = tiny.toy_rows()
    for split, part in {"train": rows[:64], "validation": rows[64:80], "test": rows[80:]}.items():
        lines = ({"prompt": f"{row['text']} :", "completion": f" {row['label']}"} for row in part)
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def run_of(tmp_path):
    [directory] = (tmp_path / "runs").iterdir()
    return directory, json.loads((directory / "run.json").read_text())


def test_a_tiny_model_learns_to_answer_rows_it_has_not_seen(toy_recipe, asked_data, tmp_path, capsys):
    training = {"num_train_epochs": 60, "learning_rate": 2e-3, "eval_strategy": "no"}
    recipe = toy_recipe(
        "gpt2", task="text-generation", dataset={"path": str(asked_data)}, training=training,
        generation={"max_new_tokens": 8, "do_sample": False}, evaluation={"metrics": ["exact_match", "rougeL", "bleu"]},
    )  # fmt: skip
    assert main(["run", str(recipe)]) == 0
    directory, record = run_of(tmp_path)
    scores = record["metrics"]["test"]
    assert list(scores) == ["perplexity", "accuracy", "rougeL", "exact_match", "bleu"]
    assert scores["accuracy"]["value"] == scores["exact_match"]["value"] == scores["rougeL"]["value"] == 1.0
    assert record["baselines"]["untrained"]["exact_match"]["value"] == 0.0
    assert record["main_metric"]["name"] == "perplexity"
    assert 1.0 < scores["perplexity"]["value"] < 1.1 < record["baselines"]["untrained"]["perplexity"]["value"]
    assert scores["perplexity"]["low"] <= scores["perplexity"]["value"] <= scores["perplexity"]["high"]
    capsys.readouterr()
    test = asked_data / "test.jsonl"
    assert main(["predict", str(directory), str(test)]) == 0
    said = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    rows = [json.loads(line) for line in test.read_text().splitlines()]
    assert [line["prediction"] for line in said] == [row["completion"] for row in rows]
    scored = [json.loads(line) for line in (directory / "predictions-test.jsonl").read_text().splitlines()]
    assert [(line["prediction"], line["reference"]) for line in scored] == [(row["completion"],) * 2 for row in rows]
    assert main(["evaluate", str(directory), "--on", str(test), "--json"]) == 0
    again = json.loads(capsys.readouterr().out)["metrics"]
    assert {name: again[name]["value"] for name in scores} == pytest.approx(
        {name: score["value"] for name, score in scores.items()}, rel=1e-5
    )
    generator = pipeline("text-generation", model=str(directory / "model"))
    options = {"max_new_tokens": 8, "do_sample": False, "return_full_text": False}
    assert [line["prediction"] for line in said[:4]] == [
        generator(row["prompt"], **options)[0]["generated_text"] for row in rows[:4]
    ]


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_takes_a_step_and_comes_back(family, toy_recipe, toy_data, tmp_path, capsys):
    recipe = toy_recipe(
        family, task="text-generation", training={"max_steps": 1, "eval_strategy": "no"},
        dataset={"path": str(toy_data), "columns": {"text": "text"}, "max_eval_samples": 4},
        generation={"max_new_tokens": 3, "do_sample": False},
    )  # fmt: skip
    assert main(["run", str(recipe)]) == 0
    directory, record = run_of(tmp_path)
    assert record["metrics"]["test"]["perplexity"]["value"] > 1
    source = tmp_path / "prompts.txt"
    source.write_text("what a lovely\nher answer\n")
    capsys.readouterr()
    assert main(["predict", str(directory), str(source)]) == 0
    said = [json.loads(line)["prediction"] for line in capsys.readouterr().out.splitlines()]
    generator = pipeline("text-generation", model=str(directory / "model"))
    options = {"max_new_tokens": 3, "do_sample": False, "return_full_text": False}
    assert said == [generator(line, **options)[0]["generated_text"] for line in source.read_text().splitlines()]


def own_script(folder):
    """Write a metric of one's own: the share of equal texts; return its path."""
    path = folder / "equal" / "equal.py"
    path.parent.mkdir()
    path.write_text(
        "import datasets\n"
        "import evaluate\n"
        "class Equal(evaluate.Metric):\n"
        "    def _info(self):\n"
        "        kind = datasets.Value('string')\n"
        "        features = datasets.Features({'predictions': kind, 'references': kind})\n"
        "        return evaluate.MetricInfo(description='', citation='', inputs_description='', features=features)\n"
        "    def _compute(self, predictions, references):\n"
        "        same = [said == true for said, true in zip(predictions, references)]\n"
        "        return {'equal': sum(same) / len(same)}\n"
    )
    return str(path.parent)


def test_messages_are_read_trained_on_and_answered(toy_recipe, checkpoints, tmp_path, capsys, monkeypatch):
    folder = tmp_path / "chat-model"
    AutoModelForCausalLM.from_pretrained(checkpoints("gpt2")).save_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(checkpoints("gpt2"))
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    data = tmp_path / "talks"
    data.mkdir()
    for split in ("train", "validation"):
        (data / f"{split}.jsonl").write_text((json.dumps({"messages": TALK[:2]}) + "\n") * 8)
    recipe = toy_recipe(
        task="text-generation", model={"name_or_path": str(folder)}, dataset={"path": str(data)},
        training={"num_train_epochs": 30, "eval_strategy": "no"}, generation={"max_new_tokens": 6, "do_sample": False},
        evaluation={"metrics": ["exact_match", own_script(tmp_path)]},
    )  # fmt: skip
    assert main(["run", str(recipe)]) == 0
    directory, record = run_of(tmp_path)
    assert record["metrics"]["validation"]["exact_match"]["value"] == 1.0
    assert record["metrics"]["validation"]["equal"]["value"] == 1.0
    assert record["baselines"]["untrained"]["equal"]["value"] == 0.0
    capsys.readouterr()
    assert main(["predict", str(directory), str(data / "validation.jsonl")]) == 0
    said = json.loads(capsys.readouterr().out.splitlines()[0])
    assert said["prediction"] == "lovely"
    assert said["messages"] == TALK[:2]


def test_streamed_texts_train_as_loaded_ones(toy_recipe, toy_data, tmp_path):
    losses = []
    for streaming in (False, True):
        recipe = toy_recipe(
            "gpt2", task="text-generation", filename=f"s{streaming}.yaml", output_dir=str(tmp_path / f"r{streaming}"),
            dataset={"path": str(toy_data), "columns": {"text": "text"}, "streaming": streaming},
            training={"max_steps": 3, "eval_strategy": "no", "train_sampling_strategy": "sequential"},
        )  # fmt: skip
        assert main(["run", str(recipe)]) == 0
        [directory] = (tmp_path / f"r{streaming}").iterdir()
        record = json.loads((directory / "run.json").read_text())
        losses.append(record["metrics"]["test"]["perplexity"]["value"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)


@pytest.mark.parametrize(
    ("family", "changes", "words"),
    [
        ("bert", {}, "bert model is encoder-only, and text-generation is for decoder-only"),
        ("t5", {}, "encoder-decoder, and text-generation is for decoder-only"),
        ("gpt2", {"preprocessing": {"max_length": 1}}, "leaves no token to predict"),
        ("gpt2", {"training": {"class_weights": "balanced"}}, "has no classes to weight"),
        ("gpt2", {"dataset": {"columns": {"messages": "text"}}}, "holds no messages but"),
        ("gpt2", {"evaluation": {"metrics": ["bleu"]}}, "bleu compares what the model writes with a reference, which"),
        (
            "gpt2",
            {"evaluation": {"metrics": ["bleu"]}, "dataset": {"columns": {"text": "text"}}},
            "bleu needs references, which plain texts do not have: map prompt and completion, or messages",
        ),
        ("gpt2", {"evaluation": {"metrics": ["rouge"]}}, "unknown metric rouge; did you mean rougeL?"),
        (
            "gpt2",
            {"training": {"metric_for_best_model": "rougeL"}},
            "rougeL is scored only where evaluation.metrics names it",
        ),
        (
            "gpt2",
            {"dataset": {"columns": {"topic": "body"}}},
            "unknown role; text-generation has text, prompt, completion and messages",
        ),
    ],
)
def test_wrong_recipes_are_one_clear_error(family, changes, words, toy_recipe, capsys):
    assert main(["run", str(toy_recipe(family, task="text-generation", **changes))]) == 1
    error = capsys.readouterr().err
    assert words in error
    assert "Traceback" not in error


def test_a_packed_run_takes_the_same_steps_in_fewer_rows(toy_recipe, toy_data, tmp_path, capsys):
    losses = {}
    for packing in (False, True):
        recipe = toy_recipe(
            "gpt2", task="text-generation", filename=f"p{packing}.yaml", output_dir=str(tmp_path / f"p{packing}"),
            dataset={"path": str(toy_data), "columns": {"text": "text"}}, preprocessing={"packing": packing},
            training={"num_train_epochs": 4, "eval_strategy": "no", "per_device_train_batch_size": 64},
        )  # fmt: skip
        assert main(["run", str(recipe)]) == 0
        [directory] = (tmp_path / f"p{packing}").iterdir()
        log = [json.loads(line) for line in (directory / "log.jsonl").read_text().splitlines()]
        losses[packing] = [line["loss"] for line in log if "loss" in line]
    assert len(losses[False]) == 4
    assert losses[True] == pytest.approx(losses[False], rel=1e-4)
    assert "64 texts packed into 9 rows of up to 64 tokens" in capsys.readouterr().err
