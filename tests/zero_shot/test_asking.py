"""Checkpoints that are asked: what they choose, what they write, and when they are not asked at all."""

import json
from dataclasses import replace

import numpy
import pytest
import torch
import transformers

from finetune.models.language import why_no_language_head
from finetune.tasks.question_answering import from_text
from finetune.training.finish import write_predictions
from finetune.training.prompted import ask_model, open_model
from finetune.zero_shot.prompted import _prior, open_asking
from tests import tiny
from tests.zero_shot import knowing
from tests.zero_shot.conftest import Alone


def accuracy(answered):
    return answered.scores["accuracy"]


@pytest.mark.parametrize("family", ["gpt2", "bert", "t5"])
def test_a_random_model_answers_by_chance(family, subject):
    asked, model = subject(family)
    for shots in (0, 4):
        found = accuracy(ask_model(asked, Alone(), model, "test", shots))
        assert found["low"] <= 0.5 <= found["high"]


def test_calibration_takes_out_what_the_model_says_to_nothing(subject):
    asked, model = subject("gpt2")
    calibrated, _ = subject("gpt2", "evaluation.prompt.calibrate=true")
    plain, fair = (ask_model(each, Alone(), model, "test", 0) for each in (asked, calibrated))
    asking = open_asking(calibrated.recipe, calibrated.data, calibrated.checkpoint, calibrated.context)
    prior = _prior(asking, asking.wording, model)
    assert prior.shape == (2,)
    assert numpy.exp(prior).sum() == pytest.approx(1)
    odds = [numpy.log(each.evaluation.answers.column("probabilities")) for each in (plain, fair)]
    moved = (odds[0] - odds[1]) @ [1, -1]
    assert moved == pytest.approx(prior @ [1, -1])
    assert fair.facts["calibrate"]


def write_rows(folder, rows, counts=(24, 8)):
    folder.mkdir(exist_ok=True)
    starts = (0, counts[0], sum(counts))
    for split, start, end in zip(("train", "validation"), starts, starts[1:], strict=False):
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[start:end]))
    return folder


def test_training_rows_that_are_asked_about_are_not_shown(subject, tmp_path, capsys):
    rows = tiny.toy_rows()[:6]
    path = write_rows(tmp_path / "twice", [*rows, *rows[:2], *tiny.toy_rows()[6:8]], (6, 4))
    asked, model = subject("gpt2", path=path)
    few = ask_model(asked, Alone(), model, "validation", 6)
    assert sorted(few.facts["example_rows"]) == [3, 4, 5, 6]
    assert (few.facts["shots"], few.facts["passed_over_rows"]) == (4, 2)
    notes = capsys.readouterr().err
    assert "few-shot: 2 training rows passed over, whose text is asked about, word for word" in notes
    assert "the training split has 4 rows to show, of 6 asked for" in notes


def test_choices_are_scored_as_the_task_itself_scores_them(subject, tmp_path):
    path = write_rows(tmp_path / "choices", tiny.toy_choices())
    asked, model = subject("gpt2", task="multiple-choice", path=path)
    answered = ask_model(asked, Alone(), model, "validation", 0)
    tokenizer = asked.checkpoint.tokenizer
    for row, answer in answered.evaluation.answered():
        scores = []
        for choice in row["choices"]:
            before, whole = (tokenizer(text)["input_ids"] for text in (row["question"], f"{row['question']} {choice}"))
            with torch.no_grad():
                chances = model(torch.tensor([whole])).logits[0, :-1].log_softmax(-1)
            scored = range(len(before), len(whole))
            scores.append(numpy.mean([float(chances[at - 1, whole[at]]) for at in scored]))
        assert answer["prediction"] == int(numpy.argmax(scores))
    few = ask_model(asked, Alone(), model, "validation", 2)
    assert few.facts["shots"] == 2
    line = few.evaluation.task.line(answer, row, few.evaluation.context)
    assert json.loads(json.dumps(line))["choice"] == row["choices"][line["prediction"]]


def test_completions_are_scored_after_the_prompt(subject, tmp_path):
    rows = [{"prompt": f"{row['text']} is", "completion": f" {row['label']}"} for row in tiny.toy_rows()]
    path = write_rows(tmp_path / "completions", rows)
    asked, model = subject("gpt2", task="text-generation", path=path)
    zero, few = (ask_model(asked, Alone(), model, "validation", shots) for shots in (0, 2))
    tokenizer, losses = asked.checkpoint.tokenizer, []
    for row in rows[24:32]:
        before = tokenizer(row["prompt"])["input_ids"]
        said = [*tokenizer(row["completion"])["input_ids"], tokenizer.eos_token_id]
        with torch.no_grad():
            chances = model(torch.tensor([before + said])).logits[0, len(before) - 1 : -1].log_softmax(-1)
        losses += (-chances.gather(1, torch.tensor(said)[:, None])).flatten().tolist()
    assert zero.scores["perplexity"]["value"] == pytest.approx(numpy.exp(numpy.mean(losses)), rel=1e-4)
    assert few.features[0]["input_ids"] != zero.features[0]["input_ids"]
    [shown] = {tuple(few.facts["example_rows"])}
    assert set(shown) <= set(range(1, 25))
    writing, _ = subject("gpt2", "evaluation.metrics=[rougeL]", task="text-generation", path=path)
    assert "rougeL" in writing.metric_names  # prompts and completions have what is written to compare with
    assert writing.context.writes


def test_texts_are_written_after_the_prompt(subject, tmp_path):
    rows = [{"source": row["text"], "target": row["target"]} for row in tiny.toy_rewritten_rows()]
    path = write_rows(tmp_path / "rewritten", rows, (12, 4))
    settings = ("generation.max_new_tokens=4", "evaluation.prompt.template=say otherwise {source} so {target}")
    asked, model = subject("t5", *settings, task="text2text-generation", path=path)
    answered = ask_model(asked, Alone(), model, "validation", 1)
    first = asked.checkpoint.tokenizer.decode(answered.features[0]["input_ids"])
    assert "".join(first.split()).count("sayotherwise") == 2
    batch = {"input_ids": torch.tensor([answered.features[0]["input_ids"]])}
    written = model.generate(**batch, generation_config=asked.generation)
    said = asked.checkpoint.tokenizer.decode(written[0], skip_special_tokens=True)
    [answer] = [answer for row, answer in answered.evaluation.answered() if row["row"] == 1]
    assert answer["prediction"] == said
    assert "rougeL" in answered.scores


@pytest.mark.parametrize("family", ["gpt2", "t5"])
def test_answers_to_questions_are_written(family, subject, tmp_path):
    path = write_rows(tmp_path / "questions", tiny.toy_questions(unanswerable=True, count=36), (24, 12))
    asked, model = subject(family, "preprocessing.max_answer_length=5", task="question-answering", path=path)
    zero, few = (ask_model(asked, Alone(), model, "validation", shots) for shots in (0, 3))
    tokenizer = asked.checkpoint.tokenizer
    for row, answer in zero.evaluation.answered():
        ids = tokenizer(f"{row['context']}\n\nQuestion: {row['question']}\nAnswer:", return_tensors="pt")["input_ids"]
        written = model.generate(input_ids=ids, max_new_tokens=5, do_sample=False, num_beams=1)[0]
        said = tokenizer.decode(written[ids.shape[1] if family == "gpt2" else 0 :], skip_special_tokens=True)
        assert answer == {"prediction": from_text(said)}
    assert list(zero.scores) == list(asked.metric_names)
    assert zero.scores["f1"]["n"] == 12
    assert (few.facts["shots"], few.facts["calibrate"], few.facts["label_words"]) == (3, False, None)
    assert few.features[0]["length"] > zero.features[0]["length"]
    write_predictions(tmp_path, "validation", zero.evaluation)
    first = json.loads((tmp_path / "predictions-validation.jsonl").read_text().splitlines()[0])
    assert (sorted(first), first["reference"]) == (["prediction", "reference", "row"], [])  # every third has no answer


@pytest.mark.parametrize(
    ("task", "rows"),
    [
        ("token-classification", tiny.toy_tagged_rows()),
        ("question-answering", tiny.toy_questions()),
        ("text-classification", [{"text": "so", "label": n / 7} for n in range(40)]),
        ("fill-mask", [{"text": row["text"]} for row in tiny.toy_rows()]),
    ],
)
def test_what_words_cannot_ask_is_refused_with_the_reason(task, rows, subject, tmp_path):
    from finetune.errors import FinetuneError

    path = write_rows(tmp_path / "rows", rows)
    with pytest.raises(FinetuneError, match=r"cannot be asked in words: .*(head|answer to choose|untrained)"):
        subject("bert", task=task, path=path)


def test_a_checkpoint_without_its_head_is_refused(checkpoints, subject):
    from finetune.errors import FinetuneError

    with pytest.raises(FinetuneError, match=r"no trained head for masked words \(its weights lack cls\.pred"):
        subject(checkpoints("bert"))


@pytest.mark.parametrize("family", ["gpt2", "bart", "bert"])
def test_a_classifier_is_refused_though_no_weight_is_missing(family, speaking, subject, tmp_path):
    from finetune.errors import FinetuneError

    config = transformers.AutoConfig.from_pretrained(speaking(family))
    transformers.AutoModelForSequenceClassification.from_config(config).save_pretrained(tmp_path / "classifier")
    transformers.AutoTokenizer.from_pretrained(speaking(family)).save_pretrained(tmp_path / "classifier")
    with pytest.raises(FinetuneError, match=r"trained under another head \(\w+ForSequenceClassification\)"):
        subject(tmp_path / "classifier")


@pytest.mark.parametrize(
    ("names", "says_why"),
    [
        (["GPT2LMHeadModel"], False),
        (["BartModel"], False),  # so facebook/bart-base says of itself
        (["MarianMTModel"], False),
        (["BertForPreTraining"], False),
        (["T5ForConditionalGeneration"], False),
        (None, False),
        (["OPTForSequenceClassification"], True),
        (["BertForNextSentencePrediction"], True),
        (["Qwen2ForRewardModel"], True),
    ],
)
def test_the_class_that_saved_the_weights_tells_what_they_were_trained_for(names, says_why):
    assert (why_no_language_head(transformers.PretrainedConfig(architectures=names)) is not None) == says_why


def test_scores_do_not_suffer_from_half_precision(subject, opened):
    asked, model = subject("gpt2")
    with torch.no_grad():  # all logits lower by the same: no likelihood changes
        model.transformer.ln_f.bias[0] = 100.0
        model.lm_head.weight[:, 0] = -1.0
    exact = ask_model(asked, Alone(), model, "test", 0)
    asked.accelerator.native_amp, asked.accelerator.state._mixed_precision = True, "bf16"
    rounded = ask_model(asked, Alone(), model, "test", 0)
    chances = [each.evaluation.answers.column("probabilities") for each in (exact, rounded)]
    assert not numpy.array_equal(*chances)
    assert numpy.abs(numpy.log(chances[0]) - numpy.log(chances[1])).max() < 0.05


def test_random_weights_are_not_asked(subject):
    asked, _ = subject("gpt2")
    scratch = asked.recipe.model.model_copy(update={"init": "scratch"})
    model, reason = open_model(replace(asked, recipe=asked.recipe.model_copy(update={"model": scratch})))
    assert model is None
    assert "random weights" in reason


@pytest.mark.slow
@pytest.mark.parametrize(("family", "steps"), [("gpt2", 160), ("bert", 400), ("t5", 140)])
def test_a_model_that_was_taught_the_words_knows_them(family, steps, speaking, subject, tmp_path):
    rate = 1e-2 if family == "t5" else 5e-3
    taught = knowing.teach(speaking(family), tmp_path / "taught", steps, rate, shown=2)
    asked, model = subject(taught)
    for shots in (0, 2):
        found = accuracy(ask_model(asked, Alone(), model, "test", shots))
        assert found["low"] > 0.6, (shots, found)
