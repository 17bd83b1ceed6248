"""The model of a run outside finetune: exported whole, and giving the same answers in plain transformers."""

import json

import pytest
import yaml

from finetune.cli.app import main
from finetune.using.export import FORMATS
from tests import tiny


def export(capsys, *arguments):
    capsys.readouterr()
    code = main(["export", *map(str, arguments)])
    out, err = capsys.readouterr()
    return code, out, err


def test_export_writes_the_model_whole_into_a_new_folder(toy_runs, tmp_path, capsys):
    [directory] = toy_runs.iterdir()
    to = tmp_path / "model"
    code, out, err = export(capsys, "toy", "--to", to, "--output-dir", toy_runs)
    assert (code, err) == (0, "")
    assert out.startswith(f"wrote {to} (")
    assert {path.name for path in to.iterdir()} == {path.name for path in (directory / "model").iterdir()}
    for path in to.iterdir():
        if path.name != "README.md":
            assert path.read_bytes() == (directory / "model" / path.name).read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    for again in (to, to / "config.json"):
        code, _, err = export(capsys, "toy", "--to", again, "--output-dir", toy_runs)
        assert (code, "nothing is written over" in err) == (1, True)


@pytest.mark.parametrize(
    ("format", "message"),
    [
        ("onxn", "--format onxn: expected safetensors, merged, adapter or onnx\nhint: Did you mean onnx?"),
        ("onnx", "optimum-onnx, which exports transformers' models, needs transformers 4"),
        ("adapter", "has no adapter (peft)"),
    ],
)
def test_export_says_what_it_cannot_write(toy_runs, tmp_path, capsys, format, message):
    code, _, err = export(capsys, "toy", "--to", tmp_path / "x", "--format", format, "--output-dir", toy_runs)
    assert (code, message in err) == (1, True), err
    assert not (tmp_path / "x").exists()


def test_every_format_is_in_the_help():
    text = (tiny.Path(__file__).parents[2] / "finetune" / "cli" / "export.py").read_text()
    assert all(name in text for name in FORMATS if name != "onnx")


def rewritten(rows):
    return [{"text": row["text"], "target": row["target"]} for row in rows]


# task: family, rows, problem that a user would give it
TASKS = {
    "text-classification": ("distilbert", tiny.toy_rows),
    "token-classification": ("bert", tiny.toy_tagged_rows),
    "question-answering": ("bert", lambda: tiny.toy_questions(count=96)),
    "multiple-choice": ("bert", tiny.toy_choices),
    "fill-mask": ("bert", lambda: [{"text": row["text"]} for row in tiny.toy_rows()]),
    "text-generation": ("gpt2", lambda: [{"text": row["text"]} for row in tiny.toy_rows()]),
    "text2text-generation": ("bart", lambda: tiny.toy_rewritten_rows()[:96]),
}
ASKED = {
    "text-classification": {"text": "what a lovely day it was"},
    "token-classification": {"text": "her answer sounded nasty"},
    "question-answering": {
        "question": "what was lovely",
        "context": "the meal seemed awful, her answer sounded lovely",
    },
    "multiple-choice": {"question": "what was awful", "choices": ["lovely", "nasty", "bright", "superb"]},
    "fill-mask": {"text": "what a [MASK] day it was"},
    "text-generation": {"text": "the meal seemed"},
    "text2text-generation": {"text": "lovely day and nasty film"},
}


@pytest.fixture
def trained(checkpoints, tmp_path):
    """Return a function that trains a task for a few steps, with or without adapters, and gives its runs' folder."""

    def train(task, **sections):
        family, rows = TASKS[task]
        rows = rows()
        for split, part in {"train": rows[:64], "validation": rows[64:80], "test": rows[80:96]}.items():
            (tmp_path / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))
        recipe = {
            "task": task,
            "name": "toy",
            "model": {"name_or_path": str(checkpoints(family))},
            "dataset": {"data_files": {split: f"{split}.jsonl" for split in ("train", "validation", "test")}},
            "training": {"max_steps": 4, "per_device_train_batch_size": 8, "learning_rate": 5e-3,
                         "mixed_precision": "no", "save_strategy": "no", "load_best_model_at_end": False},
            "evaluation": {"baselines": []},
            "emissions": {"country_iso_code": "BRA"},
            **sections,
        }  # fmt: skip
        if task in ("text-generation", "text2text-generation"):
            recipe["generation"] = {"max_new_tokens": 8, "min_new_tokens": 4}
            recipe["training"]["max_steps"] = 40  # before that it writes nothing but special tokens
        (tmp_path / "toy.yaml").write_text(yaml.safe_dump(recipe))
        assert main(["run", str(tmp_path / "toy.yaml"), "--output-dir", str(tmp_path / "runs")]) == 0
        return tmp_path / "runs"

    return train


def answer_of(runs, asked, tmp_path, capsys):
    file = tmp_path / "asked.jsonl"
    file.write_text(json.dumps(asked) + "\n")
    capsys.readouterr()
    assert main(["predict", "toy", str(file), "--output-dir", str(runs)]) == 0
    return json.loads(capsys.readouterr().out)


def plain_answer(task, folder, asked):
    """Answer as somebody would who knows transformers only: by its pipeline, else by the Auto class."""
    import torch
    import transformers as t

    text = asked.get("text")
    if task == "text-classification":
        [scores] = t.pipeline(task, model=folder, top_k=None)([text])
        return {"probabilities": pytest.approx({entry["label"]: entry["score"] for entry in scores}, abs=1e-4)}
    if task == "token-classification":
        found = t.pipeline(task, model=folder, aggregation_strategy="first")(text)
        return {"prediction": [pytest.approx({**entry, "score": float(entry["score"])}, abs=1e-4) for entry in found]}
    if task == "fill-mask":
        return {"fills": [[pytest.approx(entry["score"], abs=1e-4) for entry in t.pipeline(task, model=folder)(text)]]}
    if task == "text-generation":
        # Left to itself this pipeline draws at random, whatever the model says.
        [made] = t.pipeline(task, model=folder)(text, return_full_text=False, do_sample=False, max_new_tokens=8)
        return {"prediction": made["generated_text"]}
    tokenizer = t.AutoTokenizer.from_pretrained(folder)
    if task == "text2text-generation":
        model = t.AutoModelForSeq2SeqLM.from_pretrained(folder)
        made = model.generate(**tokenizer(text, return_tensors="pt"))
        return {"prediction": tokenizer.decode(made[0], skip_special_tokens=True)}
    with torch.no_grad():
        if task == "multiple-choice":
            choices = asked["choices"]
            pairs = tokenizer([asked["question"]] * len(choices), choices, padding=True, return_tensors="pt")
            model = t.AutoModelForMultipleChoice.from_pretrained(folder)
            chances = model(**{name: value[None] for name, value in pairs.items()}).logits[0].softmax(0)
            return {"prediction": int(chances.argmax()), "probabilities": pytest.approx(chances.tolist(), abs=1e-4)}
        model = t.AutoModelForQuestionAnswering.from_pretrained(folder)
        encoded = tokenizer(asked["question"], asked["context"], return_tensors="pt", return_offsets_mapping=True)
        offsets, inside = encoded.pop("offset_mapping")[0].tolist(), encoded.sequence_ids(0)
        outputs = model(**encoded)
    spans = [
        (float(outputs.start_logits[0, first] + outputs.end_logits[0, last]), first, last)
        for first, side in enumerate(inside) if side == 1
        for last in range(first, min(first + 30, len(inside))) if inside[last] == 1
    ]  # fmt: skip
    _, first, last = max(spans)
    return {"prediction": asked["context"][offsets[first][0] : offsets[last][1]]}


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_an_exported_model_answers_in_plain_transformers_as_predict_does(task, trained, tmp_path, capsys):
    runs = trained(task)
    code, _, err = export(capsys, "toy", "--to", tmp_path / "model", "--output-dir", runs)
    assert code == 0, err
    ours = answer_of(runs, ASKED[task], tmp_path, capsys)
    assert ours["prediction"] not in ("", None)
    if task == "fill-mask":
        ours["fills"] = [[entry["score"] for entry in fill] for fill in ours["fills"]]
    for name, expected in plain_answer(task, str(tmp_path / "model"), ASKED[task]).items():
        assert ours[name] == expected
    code = main(["evaluate", "toy", "--on", str(tmp_path / "test.jsonl"), "--json", "--output-dir", str(runs)])
    content = json.loads(capsys.readouterr().out)
    [directory] = runs.iterdir()
    recorded = json.loads((directory / "run.json").read_text())["metrics"]["test"]
    for name, entry in recorded.items():
        assert content["metrics"][name]["value"] == pytest.approx(entry["value"], abs=1e-4), name


@pytest.mark.slow
def test_exported_adapters_answer_merged_and_alone(trained, tmp_path, capsys):
    import torch
    from peft import PeftModel
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    runs = trained("text-classification", peft={"method": "lora", "r": 4})
    for format, folder in (("merged", "merged"), ("adapter", "adapter")):
        words = ("--to", tmp_path / folder, "--format", format, "--output-dir", runs)
        assert export(capsys, "toy", *words)[0] == 0
    answer = answer_of(runs, ASKED["text-classification"], tmp_path, capsys)
    [directory] = runs.iterdir()
    base = json.loads((directory / "run.json").read_text())["model"]["name_or_path"]
    names = {0: "bad", 1: "good"}
    opened = AutoModelForSequenceClassification.from_pretrained(directory / base, id2label=names)
    models = {
        "merged": AutoModelForSequenceClassification.from_pretrained(tmp_path / "merged"),
        "adapter": PeftModel.from_pretrained(opened, str(tmp_path / "adapter")),
    }
    for folder, model in models.items():
        tokenizer = AutoTokenizer.from_pretrained(tmp_path / folder)
        with torch.no_grad():
            logits = model.eval()(**tokenizer(ASKED["text-classification"]["text"], return_tensors="pt")).logits[0]
        assert dict(zip(names.values(), logits.softmax(0).tolist(), strict=True)) == pytest.approx(
            answer["probabilities"], abs=1e-4
        )
