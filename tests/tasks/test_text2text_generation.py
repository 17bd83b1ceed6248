"""finetune.tasks.text2text_generation: teacher forcing, scores beside their references, and runs from end to end."""

import json
import shutil
from types import SimpleNamespace

import numpy
import pytest
import torch
import transformers
from sacrebleu.metrics import BLEU, CHRF

from finetune.cli.app import main
from finetune.data.batching import collate
from finetune.errors import FinetuneError
from finetune.evaluation.intervals import bootstrap
from finetune.tasks import Context, LabelScheme, all_tasks
from finetune.tasks.text2text_generation import TASK, encode, formulas, generates, measure, reduce
from tests import tiny
from tests.marks import slowly

FAMILIES = ("bart", "t5")
LABELS = LabelScheme("text")


def context_of(folder, max_length=64, **options):
    config = transformers.AutoConfig.from_pretrained(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    return Context(tokenizer, LABELS, "encoder-decoder", max_length, config=config, **options)


def model_of(folder):
    torch.manual_seed(0)
    return transformers.AutoModelForSeq2SeqLM.from_pretrained(folder).eval()


def batch_of(context, rows):
    features = encode(rows, context)
    return collate(features, context.tokenizer, context.max_length, "cpu", TASK.pads)


ROWS = {
    "source": ["what a lovely day it was", "nasty weather again", "her answer sounded rotten to everyone there"],
    "target": [["lovely is good"], ["nasty is bad and so was the evening there"], ["rotten"]],
}


def write_rows(folder, rows):
    """Write 16 rows each to validate and test by, and the others to train on."""
    for split, part in {"validation": rows[:16], "test": rows[16:32], "train": rows[32:]}.items():
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))
    return folder


@pytest.fixture(scope="session")
def rewritten_data(tmp_path_factory):
    return write_rows(tmp_path_factory.mktemp("rewritten"), tiny.toy_rewritten_rows())


def run_of(tmp_path):
    [directory] = (tmp_path / "runs").iterdir()
    return directory, json.loads((directory / "run.json").read_text())


def lines_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("family", FAMILIES)
def test_loss_equals_that_of_the_model_itself(family, checkpoints):
    context, model = context_of(checkpoints(family)), model_of(checkpoints(family))
    batch = batch_of(context, ROWS)
    own = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], labels=batch["labels"])
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask", "decoder_input_ids")}
    outputs = model(**inputs)
    weight = TASK.loss_weight(batch, context)
    assert int(weight) == sum(len(ids) for ids in encode(ROWS, context)["labels"])
    loss = TASK.loss(outputs, batch, context).item()
    assert loss / float(weight) == pytest.approx(own.loss.item(), rel=1e-5)


def test_loss_adds_up_over_the_parts_of_a_batch_with_smoothing():
    torch.manual_seed(0)
    logits, labels = torch.randn(5, 4, 7), torch.randint(0, 7, (5, 4))
    labels[labels == 0] = -100
    context = Context(None, LABELS, "encoder-decoder", 64, label_smoothing=0.1)
    expected = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), label_smoothing=0.1)

    def parts(rows):
        batch = {"labels": labels[rows]}
        outputs = SimpleNamespace(logits=logits[rows])
        return float(TASK.loss(outputs, batch, context)), float(TASK.loss_weight(batch, context))

    total, weight = numpy.sum([parts(slice(0, 1)), parts(slice(1, 3)), parts(slice(3, 5))], axis=0)
    assert total / weight == pytest.approx(float(expected), rel=1e-6)


@pytest.mark.parametrize("family", FAMILIES)
def test_evaluation_keeps_text_and_loss_of_each_row_and_no_logits(family, checkpoints):
    context, model = context_of(checkpoints(family)), model_of(checkpoints(family))
    model.generation_config.max_new_tokens = 5
    batch = batch_of(context, ROWS)
    with torch.no_grad():
        outputs = TASK.ask(model, batch, context)
    assert not hasattr(outputs, "logits")
    kept = reduce(outputs, batch, context)
    assert kept["tokens"].sum() == int(TASK.loss_weight(batch, context))
    assert kept["nll"].sum() == pytest.approx(float(TASK.loss(outputs, batch, context)), rel=1e-6)
    assert len(kept["prediction"]) == 3
    unlabelled = {name: batch[name] for name in ("input_ids", "attention_mask")}
    with torch.no_grad():
        assert set(reduce(TASK.ask(model, unlabelled, context), unlabelled, context)) == {"prediction"}


@pytest.mark.parametrize("family", FAMILIES)
def test_encode_puts_the_prefix_first_and_cuts_both_sides(family, checkpoints):
    context = context_of(checkpoints(family), settings={"source_prefix": "the film "})
    encoded = encode(ROWS, context)
    assert context.tokenizer.decode(encoded["input_ids"][1], skip_special_tokens=True) == "the film nasty weather again"
    assert encoded["length"] == [
        max(map(len, pair)) for pair in zip(encoded["input_ids"], encoded["labels"], strict=True)
    ]
    cut = encode(ROWS, context_of(checkpoints(family), max_length=6))
    assert max(map(len, cut["input_ids"])) == max(map(len, cut["labels"])) == 6
    assert all(ids[-1] == context.tokenizer.eos_token_id for ids in cut["labels"])
    short = encode(ROWS, context_of(checkpoints(family), truncation=False, settings={"max_target_length": 4}))
    assert max(map(len, short["labels"])) == 4
    whole = encode(ROWS, context_of(checkpoints(family)))["labels"]
    assert short["cut"] == [int(len(ids) > 4) for ids in whole]
    assert max(map(len, short["input_ids"])) > 6


def small_models():
    size = {"vocab_size": 60, "d_model": 16, "encoder_layers": 1, "decoder_layers": 1}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16}
    yield transformers.BartForConditionalGeneration(transformers.BartConfig(**size, **heads))
    yield transformers.MBartForConditionalGeneration(transformers.MBartConfig(**size, **heads))
    yield transformers.M2M100ForConditionalGeneration(transformers.M2M100Config(**size, **heads))
    yield transformers.PegasusForConditionalGeneration(transformers.PegasusConfig(**size, **heads))
    for family in ("MT5", "T5"):
        config = getattr(transformers, f"{family}Config")(
            vocab_size=60, d_model=16, num_layers=1, num_heads=2, d_kv=8, d_ff=16, decoder_start_token_id=0
        )
        yield getattr(transformers, f"{family}ForConditionalGeneration")(config)


def test_what_the_decoder_reads_is_what_each_family_makes_of_its_labels():
    from finetune.tasks.text2text_generation import _start

    labels = [7, 9, 11, 2]
    for model in small_models():
        model.eval()
        read = [_start(labels, model.config), *labels[:-1]]
        with torch.no_grad():
            own = model(input_ids=torch.tensor([[5, 6, 2]]), labels=torch.tensor([labels])).logits
            logits = model(input_ids=torch.tensor([[5, 6, 2]]), decoder_input_ids=torch.tensor([read])).logits
        assert torch.equal(logits, own), type(model).__name__


def test_a_checkpoint_without_a_decoder_start_is_refused(checkpoints):
    context = context_of(checkpoints("t5"))
    context.config.decoder_start_token_id = None
    with pytest.raises(FinetuneError, match="decoder_start_token_id"):
        encode(ROWS, context)


TEXTS = [
    ("the cat sat on the mat .", ["the cat sat on a mat .", "a cat was on the mat"]),
    ("there is no cat", ["a dog barks at the moon tonight", "there is a dog"]),
    ("", ["nothing was said"]),
    ("uma canção de verão", ["uma canção de verão"]),
    ("one", ["one two three four five six seven"]),
]


def measured(pairs):
    return numpy.array([
        measure({"prediction": text, "nll": 2.0 * len(true), "tokens": 4}, {"target": [*true, " "]}, None)
        for text, true in pairs
    ])  # fmt: skip


def scores_of(pairs):
    sums = measured(pairs).sum(axis=0)
    return {name: float(formula(sums)) for name, formula in formulas(LABELS).items()}


@pytest.mark.parametrize("pairs", [TEXTS, TEXTS[:1], TEXTS[1:3], TEXTS[4:], [("x", ["y"])]], ids=len)
def test_bleu_and_chrf_equal_sacrebleu(pairs):
    texts, true = [text for text, _ in pairs], [references for _, references in pairs]
    most = max(map(len, true))
    by_place = [[row[place] if place < len(row) else None for row in true] for place in range(most)]
    scores = scores_of(pairs)
    assert scores["bleu"] == pytest.approx(BLEU().corpus_score(texts, by_place).score, rel=1e-12, abs=1e-12)
    assert scores["chrf"] == pytest.approx(CHRF().corpus_score(texts, by_place).score, rel=1e-12, abs=1e-12)


def test_rouge_equals_rouge_score_and_exact_match_takes_any_reference():
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(["rouge1", "rouge2", "rougeL", "rougeLsum"])
    scores = scores_of(TEXTS)
    for name in ("rouge1", "rouge2", "rougeL", "rougeLsum"):
        expected = numpy.mean([scorer.score_multi(true, text)[name].fmeasure for text, true in TEXTS])
        assert scores[name] == pytest.approx(expected, rel=1e-12)
    assert scores["exact_match"] == 1 / 5
    assert scores["perplexity"] == pytest.approx(numpy.exp(2.0 * 7 / 20))


def test_intervals_of_the_corpus_equal_resampling_its_rows():
    draw = numpy.random.default_rng(0)
    pairs = [TEXTS[place] for place in draw.integers(0, 5, 30)]
    low, high = bootstrap(measured(pairs), formulas(LABELS)["bleu"], 0.95)
    texts, true = [text for text, _ in pairs], [references[:1] for _, references in pairs]
    low_one, high_one = bootstrap(measured([(t, r) for t, r in zip(texts, true, strict=True)]),
                                  formulas(LABELS)["bleu"], 0.95)  # fmt: skip
    slow = []
    for _ in range(400):
        pick = draw.integers(0, 30, 30)
        slow.append(BLEU().corpus_score([texts[i] for i in pick], [[true[i][0] for i in pick]]).score)
    expected = numpy.percentile(slow, [2.5, 97.5])
    assert (low_one, high_one) == pytest.approx(tuple(expected), abs=6)
    assert low < scores_of(pairs)["bleu"] < high


def wide_start(folder, copy):
    """Copy a checkpoint whose random weights are large enough for a BART this narrow to learn within seconds."""
    shutil.copytree(folder, copy)
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "init_std": 0.15}))
    return copy


# In plain transformers too a T5 this small needs more rows and steps than a BART: its embeddings begin at a deviation
# of 1, beside which a step of Adam is small.
@pytest.mark.parametrize(
    ("family", "steps", "rows", "least"),
    [("bart", 160, 432, 0.95), ("t5", 200, 432, 0.7), *slowly([("t5", 600, 1032, 0.95)])],
)
def test_run_learns_held_out_rows(family, steps, rows, least, toy_recipe, checkpoints, tmp_path, capsys):
    (tmp_path / "rows").mkdir()
    data = write_rows(tmp_path / "rows", tiny.toy_rewritten_rows(rows))
    start = wide_start(checkpoints(family), tmp_path / "start")
    recipe = toy_recipe(
        family, task="text2text-generation", dataset={"path": str(data)},
        generation={"max_new_tokens": 32},
        model={"name_or_path": str(start), "init": "scratch" if family == "bart" else "pretrained"},
        training={"max_steps": steps, "per_device_train_batch_size": 16, "eval_strategy": "steps",
                  "eval_steps": steps // 4},
    )  # fmt: skip
    assert main(["run", str(recipe)]) == 0, capsys.readouterr().err
    directory, run = run_of(tmp_path)
    scores = run["metrics"]["test"]
    assert run["main_metric"]["name"] == "rougeL"
    assert scores["rougeL"]["value"] >= least
    assert scores["rougeL"]["low"] <= scores["rougeL"]["value"] <= scores["rougeL"]["high"]
    assert scores["bleu"]["value"] > 40
    losses = [entry["metrics"]["loss"] for entry in run["timeline"]]
    assert losses[-1] < losses[0] / 2
    assert "majority" not in run["baselines"]
    assert run["baselines"]["untrained"]["rougeL"]["value"] < 0.5
    capsys.readouterr()
    assert main(["predict", str(directory), str(data / "test.jsonl")]) == 0
    said = [json.loads(row) for row in capsys.readouterr().out.splitlines()]
    reported = lines_of(directory / "predictions-test.jsonl")
    assert [row["prediction"] for row in said] == [row["prediction"] for row in reported]
    assert [row["reference"] for row in reported] == [[row["target"]] for row in lines_of(data / "test.jsonl")]
    assert [row["prediction"] for row in said] == plain_answers(directory / "model", [row["source"] for row in said])


def plain_answers(folder, texts):
    """Return what transformers alone makes of the saved folder, a text at a time."""
    model = transformers.AutoModelForSeq2SeqLM.from_pretrained(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    inputs = (tokenizer(text, return_tensors="pt", return_token_type_ids=False) for text in texts)
    return [tokenizer.decode(model.generate(**each)[0], skip_special_tokens=True) for each in inputs]


def language_context(tokenizer, config, source, target):
    settings = {"source_lang": source, "target_lang": target}
    return Context(tokenizer, LABELS, "encoder-decoder", 64, settings=settings, config=config)


def test_languages_stand_where_each_family_has_them():
    rows = {"source": ["a"], "target": [["b"]]}
    nllb = transformers.NllbTokenizer()
    context = language_context(nllb, transformers.M2M100Config(), "eng_Latn", "por_Latn")
    english, portuguese = nllb.convert_tokens_to_ids(["eng_Latn", "por_Latn"])
    encoded = encode(rows, context)
    assert (encoded["input_ids"][0][0], encoded["labels"][0][0]) == (english, portuguese)
    assert encoded["decoder_input_ids"][0][:2] == [context.config.decoder_start_token_id, portuguese]
    assert generates(context) == {"forced_bos_token_id": portuguese}
    mbart = transformers.MBartTokenizer()
    context = language_context(mbart, transformers.MBartConfig(), "en_XX", "ro_RO")
    english, romanian = mbart.convert_tokens_to_ids(["en_XX", "ro_RO"])
    encoded = encode(rows, context)
    assert (encoded["input_ids"][0][-1], encoded["labels"][0][-1]) == (english, romanian)
    assert encoded["decoder_input_ids"][0][0] == romanian
    assert generates(context) == {"decoder_start_token_id": romanian}


def test_unknown_languages_are_one_clear_error(checkpoints):
    with pytest.raises(FinetuneError, match="the tokenizer has no language 'pt'"):
        generates(language_context(transformers.NllbTokenizer(), transformers.M2M100Config(), "eng_Latn", "pt"))
    context = context_of(checkpoints("t5"), settings={"target_lang": "pt"})
    with pytest.raises(FinetuneError, match="knows no languages"):
        generates(context)


def test_run_of_objects_with_several_references_and_a_prefix(toy_recipe, tmp_path, capsys):
    folder = tmp_path / "pairs"
    folder.mkdir()
    for split, rows in {
        "train": tiny.toy_rewritten_rows()[:24],
        "validation": tiny.toy_rewritten_rows()[24:32],
    }.items():
        pairs = [{"translation": {"en": row["text"], "pt": row["target"]}, "other": [row["text"], ""]} for row in rows]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    recipe = toy_recipe(
        "t5", task="translation", training={"max_steps": 4}, preprocessing={"source_prefix": "the film "},
        dataset={"path": str(folder), "columns": {"source": "translation.en", "target": ["translation.pt", "other"]}},
        generation={"max_new_tokens": 6, "num_beams": 2}, evaluation={"baselines": []},
    )  # fmt: skip
    assert main(["run", str(recipe)]) == 0, capsys.readouterr().err
    directory, run = run_of(tmp_path)
    assert run["main_metric"]["name"] == "bleu"
    assert run["dataset"]["columns"]["source"] == "translation.en"
    rows = lines_of(folder / "validation.jsonl")
    reported = lines_of(directory / "predictions-validation.jsonl")
    assert [row["reference"] for row in reported] == [[row["translation"]["pt"], row["other"][0]] for row in rows]
    saved = transformers.GenerationConfig.from_pretrained(directory / "model")
    assert (saved.max_new_tokens, saved.num_beams, saved.use_cache) == (6, 2, True)
    texts = ["the film " + row["translation"]["en"] for row in rows]
    assert [row["prediction"] for row in reported] == plain_answers(directory / "model", texts)
    capsys.readouterr()
    assert main(["predict", str(directory), str(folder / "validation.jsonl")]) == 0
    said = [json.loads(row) for row in capsys.readouterr().out.splitlines()]
    assert [row["prediction"] for row in said] == [row["prediction"] for row in reported]


REFUSED = [
    ("gpt2", {}, {}, "a gpt2 model is decoder-only, and summarization is for encoder-decoder ones"),
    ("bart", {"columns": {"target": "summarry"}}, {}, "has no column 'summarry'"),
    ("bart", {"columns": {"source": "text", "target": "number"}}, {}, "no target"),
    ("bart", {}, {"temperature": 0.5}, "generation.temperature: has no effect without generation.do_sample: true"),
    ("bart", {}, {"max_new_tokens": 999}, "generation.max_new_tokens: 999, where the model can take 63"),
]


@pytest.mark.parametrize(("family", "dataset", "generation", "message"), REFUSED)
def test_what_cannot_be_is_one_clear_error(family, dataset, generation, message, toy_recipe, tmp_path, capsys):
    folder = tmp_path / "data"
    folder.mkdir()
    for split in ("train", "validation"):
        rows = [{"text": row["text"], "target": row["target"], "number": ""} for row in tiny.toy_rewritten_rows()[:20]]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    options = {"generation": generation} if generation else {}
    recipe = toy_recipe(family, task="summarization", dataset={"path": str(folder), **dataset}, **options)
    assert main(["run", str(recipe)]) == 1
    said = capsys.readouterr().err
    assert message in said
    assert said.count("error:") <= 1
    assert "Traceback" not in said


def test_the_tasks_are_in_the_registry():
    tasks = all_tasks()
    assert tasks["text2text-generation"] is TASK
    assert tasks["translation"].metrics["text"][0] == "bleu"
    assert tasks["summarization"].metrics["text"][0] == "rougeL"
