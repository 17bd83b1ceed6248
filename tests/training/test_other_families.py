"""Families beyond the eight: a step of every task with a head for them, saved, and answered as transformers alone does.

Rows are answered in a padded batch here and one at a time there, so positions and attention must not see the padding.
"""

import json

import numpy
import pytest
import torch
import transformers
from transformers import pipeline

from finetune.models.build import open_checkpoint
from finetune.models.heads import KNOWN_FAMILIES
from finetune.recipe.schema import Model
from finetune.tasks import all_tasks
from tests import tiny
from tests.models.test_heads import MATRIX
from tests.tasks.test_multiple_choice import by_hand
from tests.tasks.test_text2text_generation import plain_answers

CAUSAL = ("llama", "qwen3")
PAIRS = [(family, task) for family in tiny.OTHER_FAMILIES for task in all_tasks() if MATRIX[family][task] == "yes"]
FAST = [("mbart", "translation"), ("deberta-v2", "question-answering"), ("llama", "token-classification")]
TEXTS = ["what a lovely day it was", "her answer sounded gloomy to everyone, and we came home late"]


def rows_of(task):
    """Return a few rows for training, and two of different length to answer."""
    texts = [{"text": row["text"], "label": row["label"]} for row in tiny.toy_rows()[:16]]
    if task == "fill-mask":
        return texts, [{"text": "what a [MASK] day it was"}, {"text": "her answer sounded [MASK]"}]
    if task == "text-generation":
        return [{"text": row["text"]} for row in texts], [{"text": text} for text in TEXTS]
    if task == "text-classification":
        return texts, [{"text": text} for text in TEXTS]
    if task == "token-classification":
        return tiny.toy_tagged_rows()[:16], [{"tokens": text.split()} for text in TEXTS]
    if task == "question-answering":
        return tiny.toy_questions(count=16), [{"question": "what was lovely", "context": text} for text in TEXTS]
    if task == "multiple-choice":
        return tiny.toy_choices(16), [{"question": text, "choices": tiny.GOOD[:4]} for text in TEXTS]
    rows = [{"source": row["text"], "target": row["target"]} for row in tiny.toy_rewritten_rows()[:16]]
    return rows, [{"source": text} for text in TEXTS]


def plain(task, family, folder, row):
    """Return what transformers alone answers to a row: the part of our answer that can be compared, and scores."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)

    def outputs(auto, *texts):
        model = getattr(transformers, auto).from_pretrained(folder).eval()
        encoded = tokenizer(*texts, return_tensors="pt", return_offsets_mapping=True)
        offsets = encoded.pop("offset_mapping")[0].tolist()
        with torch.no_grad():
            return model(**encoded), encoded, offsets

    if task == "fill-mask":
        [*found] = pipeline("fill-mask", model=str(folder))(row["text"])
        return [guess["token_str"] for guess in found], [guess["score"] for guess in found]
    if task == "text-generation":
        generator = pipeline("text-generation", model=str(folder))
        return generator(row["text"], max_new_tokens=4, do_sample=False, return_full_text=False)[0][
            "generated_text"
        ], []
    if task == "text-classification":
        found, _, _ = outputs("AutoModelForSequenceClassification", row["text"])
        chances = found.logits[0].softmax(0)
        return found.logits.shape[1] and chances.argmax().item(), [chances.max().item()]
    if task == "token-classification":
        text = " ".join(row["tokens"])
        found, _, offsets = outputs("AutoModelForTokenClassification", text)
        starts = [sum(len(token) + 1 for token in row["tokens"][:place]) for place in range(len(row["tokens"]))]
        firsts = [next(i for i, (_, end) in enumerate(offsets) if end > start) for start in starts]
        names = json.loads((folder / "config.json").read_text())["id2label"]
        return [names[str(found.logits[0, place].argmax().item())] for place in firsts], []
    if task == "question-answering":
        found, encoded, offsets = outputs("AutoModelForQuestionAnswering", row["question"], row["context"])
        begin, end = found.start_logits[0].tolist(), found.end_logits[0].tolist()
        parts = zip(encoded.sequence_ids(0), offsets, strict=True)
        inside = [at for at, (part, (a, b)) in enumerate(parts) if part == 1 and row["context"][a:b].strip()]
        first, last = max(((i, j) for i in inside for j in inside if i <= j), key=lambda ij: begin[ij[0]] + end[ij[1]])
        return row["context"][offsets[first][0] : offsets[last][1]].strip(), []
    if task == "multiple-choice":
        [chances] = by_hand(folder, [row], "gpt2" if family in CAUSAL else "bert")
        return int(numpy.argmax(chances)), list(chances)
    return plain_answers(folder, [row["source"]])[0], []


def ours(task, answer, labels):
    """Return the same part of our answer, and the scores."""
    if task == "fill-mask":
        return [guess["token_str"] for guess in answer["fills"][0]], [guess["score"] for guess in answer["fills"][0]]
    if task == "text-classification":
        return labels.index(answer["prediction"]), [max(answer["probabilities"].values())]
    if task == "multiple-choice":
        return answer["prediction"], answer["probabilities"]
    if task == "question-answering":
        return answer["prediction"].strip(), []
    return answer["prediction"], []


@pytest.mark.parametrize(
    ("family", "task"), [pytest.param(*pair, marks=() if pair in FAST else pytest.mark.slow) for pair in PAIRS]
)
def test_another_family_takes_a_step_and_answers_as_transformers_does(family, task, toy_recipe, finetune, tmp_path):
    known, asked = rows_of(task)
    mask = "<mask>" if family == "roberta" else "[MASK]"
    asked = [{name: value.replace("[MASK]", mask) if name == "text" else value for name, value in row.items()}
             for row in asked]  # fmt: skip
    for name, part in (("train", known), ("asked", asked)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))
    sections = {"generation": {"max_new_tokens": 4}} if all_tasks()[task].generates else {}
    if (family, task) == ("mbart", "translation"):
        sections["preprocessing"] = {"source_lang": "en_XX", "target_lang": "ro_RO"}
    recipe = toy_recipe(
        family, dropout=0.1, task=task, dataset={"path": str(tmp_path / "train.jsonl")},
        training={"max_steps": 1, "eval_strategy": "no", "learning_rate": 1e-4}, **sections,
    )  # fmt: skip
    code, _, err = finetune("run", recipe)
    assert code == 0, err
    [directory] = (tmp_path / "runs").iterdir()
    run = json.loads((directory / "run.json").read_text())
    assert run["training"]["steps"] == 1
    assert numpy.isfinite(run["training"]["train_loss"])
    code, out, err = finetune("predict", directory, tmp_path / "asked.jsonl")
    assert code == 0, err
    for row, line in zip(asked, out.splitlines(), strict=True):
        said, scores = ours(task, json.loads(line), run["dataset"]["label_names"])
        expected, expected_scores = plain(task, family, directory / "model", row)
        assert said == expected
        assert scores == pytest.approx(expected_scores, abs=1e-4)


def test_every_known_family_is_tried():
    assert {*tiny.FAMILIES, *tiny.OTHER_FAMILIES} == set(KNOWN_FAMILIES)


def test_positions_of_roberta_begin_after_those_of_padding(checkpoints):
    checkpoint = open_checkpoint(Model(name_or_path=str(checkpoints("roberta"))))
    assert checkpoint.config.max_position_embeddings == 66
    assert checkpoint.max_length(None) == 64
    with pytest.raises(Exception, match="65 is more than the 64 positions"):
        checkpoint.max_length(65)
