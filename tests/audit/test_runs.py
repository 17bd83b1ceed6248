"""The probes of a recipe before and after training, and finetune audit on what came of it."""

import json
import shutil
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace

import pytest
import yaml

from finetune.audit.asking import _require_room
from finetune.audit.command import Request, audit
from finetune.audit.probes import OpenProbe
from finetune.cli.app import main
from finetune.errors import FinetuneError
from finetune.recipe.bias_keys import bias_probes
from finetune.recipe.load import load_recipe
from finetune.recipe.schema import Training
from finetune.runs.page.render import run_html
from finetune.runs.record import read_run
from finetune.training import audits
from tests import tiny

TERMS = """\
dimension,form,group,term
kind,1,good,lovely
kind,1,bad,awful
kind,2,good,bright
kind,2,bad,gloomy
time,1,day,day
time,1,evening,evening
neutral,1,a,the
neutral,1,b,a
"""


@pytest.fixture(scope="module")
def audited(checkpoints, tmp_path_factory):
    """Return the directory of a run whose recipe has a probe of each kind."""
    folder = tmp_path_factory.mktemp("audited")
    rows = [{**row, "side": "left" if "day" in row["text"] else "right"} for row in tiny.toy_rows()]
    for split, part in {"train": rows[:48], "validation": rows[48:]}.items():
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))
    (folder / "terms.csv").write_text(TERMS)
    kinds = {**dict.fromkeys(tiny.GOOD, "no"), **dict.fromkeys(tiny.BAD, "hateful")}
    cases = [
        {"text": f"{word} {frame}", "label": kind, "target": frame, "template_id": word}
        for word, kind in kinds.items()
        for frame in ("day", "meal", "film")
    ]
    (folder / "cases.jsonl").write_text("".join(json.dumps(case) + "\n" for case in cases))
    (folder / "pairs.csv").write_text("sent_more,sent_less,bias_type\na lovely day,a awful day,kind\n")
    recipe = {
        "task": "text-classification",
        "model": {"name_or_path": str(checkpoints("bert"))},
        "dataset": {"data_files": {"train": "train.jsonl", "validation": "validation.jsonl"}},
        "training": {
            "num_train_epochs": 8, "per_device_train_batch_size": 8, "learning_rate": 5e-3, "mixed_precision": "no",
            "eval_strategy": "no", "save_strategy": "no",
        },
        "evaluation": {
            "baselines": [],
            "bias": [
                {"probe": "swaps", "language": "en", "terms": "terms.csv", "hateful_label": "bad"},
                {"probe": "groups", "file": "cases.jsonl", "language": "en", "hateful_label": "bad"},
                {"probe": "groups", "column": "side"},
                {"probe": "pairs", "file": "pairs.csv"},
            ],
        },
        "emissions": {"country_iso_code": "BRA"},
        "output_dir": str(folder / "runs"),
    }  # fmt: skip
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FINETUNE_CACHE", str(folder / "cache"))
        assert main(["run", str(folder / "recipe.yaml")]) == 0
    [directory] = (folder / "runs").iterdir()
    return directory


def probes(directory):
    return {(entry["probe"], entry["form"]): entry for entry in read_run(directory).bias["probes"]}


def finding(result, group, measure):
    [found] = [one for one in result["findings"] if (one["group"], one["measure"]) == (group, measure)]
    return found


def rounded(value):
    """Return a section without the last digits of its numbers: batches of other sizes add up in another order."""
    if isinstance(value, dict):
        return {name: rounded(entry) for name, entry in value.items()}
    if isinstance(value, list):
        return list(map(rounded, value))
    return round(value, 3) + 0.0 if isinstance(value, float) else value


def test_runs_record_every_probe_before_and_after(audited):
    found = probes(audited)
    assert list(found) == [("swaps", "swaps"), ("groups", "hatecheck"), ("groups", "column"), ("pairs", "crows")]
    swaps = found["swaps", "swaps"]
    before, after = (finding(swaps[when], "kind: good → bad", "score gap") for when in ("before", "after"))
    assert abs(before["value"]) < 0.2 < after["value"]
    assert swaps["caveats"][0]["source"]
    assert (after["null_value"], after["n"]) == (0.0, before["n"])
    cases = found["groups", "hatecheck"]["after"]
    assert {one["group"] for one in cases["findings"]} == {"day", "meal", "film"}
    assert {one["n"] for one in cases["findings"]} == {8}
    assert {one["measure"] for one in found["groups", "column"]["after"]["findings"]} == {"errors"}
    pairs = found["pairs", "crows"]
    assert (pairs["before"], pairs["after"]) == (None, None)
    assert "the checkpoint has no trained head for masked words" in pairs["before_reason"]
    assert "fine-tuned for text-classification" in pairs["after_reason"]


def test_runs_give_the_probes_a_phase_of_their_own(audited):
    phases = read_run(audited).emissions["phases"]
    assert phases["audit"]["duration_s"] > 0


def test_runs_show_the_probes_everywhere(audited, capsys):
    assert main(["show", str(audited)]) == 0
    shown = capsys.readouterr().out
    assert "swaps: terms.csv, en, without bias 0" in shown
    assert "kind: good → bad" in shown
    assert "after training: not measured: the model was fine-tuned for text-classification" in shown
    assert "Blodgett" in shown
    card = (audited / "model" / "README.md").read_text()
    assert "## Bias probes" in card
    assert "### swaps: terms.csv, en, without bias 0" in card
    assert "bias against groups of people, were not tested" not in card
    page = run_html(read_run(audited))
    assert '<section id="bias"' in page
    assert "kind: good → bad" in page
    assert main(["compare", str(audited), "--output-dir", str(audited.parent), "--json"]) == 0
    [row] = json.loads(capsys.readouterr().out)["runs"]
    assert row["bias_tests"] > row["bias_flagged"] >= 0
    assert main(["compare", str(audited), "--output-dir", str(audited.parent)]) == 0
    assert "flagged" in capsys.readouterr().out


def test_runs_are_audited_again_with_the_same_numbers(audited, capsys):
    before = read_run(audited).bias
    section = audit(Request(str(audited)))
    assert rounded(section) == rounded(before)
    assert rounded(read_run(audited).bias) == rounded(before)
    texts = str(audited.parent.parent / "train.jsonl")
    command = ["audit", str(audited), "--swaps", "--language", "en", "--texts", texts]
    assert main([*command, "--terms", str(audited.parent.parent / "terms.csv"), "--json"]) == 0
    printed = capsys.readouterr().out
    [entry] = json.loads(printed)["probes"]
    assert finding(entry["after"], "kind: good → bad", "score gap")["n"] > 5
    assert (entry["data"], entry["before"]) == ("terms.csv in train.jsonl", None)
    assert "not probed so before" in entry["before_reason"]
    kept = read_run(audited).bias["probes"]
    assert len(kept) == 5
    assert rounded(kept[:4]) == rounded(before["probes"])
    assert "## Bias probes" in (audited / "model" / "README.md").read_text()


def test_runs_are_audited_by_a_column_of_another_file(audited, tmp_path, capsys):
    sides = [{**row, "region": "north" if "day" in row["text"] else "south"} for row in tiny.toy_rows()[:40]]
    (tmp_path / "new.jsonl").write_text("".join(json.dumps(row) + "\n" for row in sides))
    command = ["audit", str(audited), "--by", "region", "--texts", str(tmp_path / "new.jsonl"), "--json"]
    assert main(command) == 0
    [entry] = json.loads(capsys.readouterr().out)["probes"]
    assert (entry["data"], entry["before"]) == ("column region in new.jsonl", None)
    assert {one["group"] for one in entry["after"]["findings"]} == {"north", "south"}
    assert sum(one["n"] for one in entry["after"]["findings"]) == 40
    unlabelled = [{"text": row["text"], "region": row["region"]} for row in sides]
    (tmp_path / "new.jsonl").write_text("".join(json.dumps(row) + "\n" for row in unlabelled))
    assert main(command) == 1
    assert "label" in capsys.readouterr().err


def test_runs_whose_data_have_changed_are_not_audited_on_them(audited, capsys):
    record, file = (audited / "run.json").read_bytes(), audited.parent.parent / "validation.jsonl"
    rows = file.read_text()
    try:
        file.write_text(rows + json.dumps({"text": "a new lovely day", "label": "good", "side": "left"}) + "\n")
        assert main(["audit", str(audited), "--by", "side"]) == 1
    finally:
        file.write_text(rows)
    assert "have changed since it was trained: its validation rows are others" in capsys.readouterr().err
    assert (audited / "run.json").read_bytes() == record


def fakes(monkeypatch):
    """Return what a run hands to its audit, where no model is asked, the phases that it went through, its results."""
    phases, results, inside = [], {}, []

    @contextmanager
    def phase(name):
        phases.append(name)
        inside.append(name)
        yield
        inside.pop()

    recipe = SimpleNamespace(
        evaluation=SimpleNamespace(bias=[{"probe": "pairs", "file": "pairs.csv"}], confidence=0.95), training=Training()
    )
    task = SimpleNamespace(name="text-classification")
    prepared = SimpleNamespace(recipe=recipe, task=task, labels=None, predictor=None, bare_model=None)
    session = SimpleNamespace(phase=phase, check=lambda: None, run=SimpleNamespace(bias=None), will_end=results.update)
    monkeypatch.setattr(audits, "languages", lambda run: ())
    monkeypatch.setattr(audits, "without_autocast", lambda model: nullcontext())
    return prepared, session, inside, results


def test_runs_book_the_reading_of_probes_as_audit(monkeypatch):
    prepared, session, inside, _ = fakes(monkeypatch)
    monkeypatch.setattr(audits, "open_probes", lambda *_: tuple(inside))
    assert audits.open_audit(prepared, session) == ("audit",)
    prepared.recipe.evaluation.bias = None
    assert audits.open_audit(prepared, None) == ()


@pytest.mark.parametrize(
    ("error", "size", "reason"),
    [
        (FinetuneError("the model's outputs are not finite numbers", "Train it again."), 2, "not finite numbers"),
        (MemoryError("no more"), 1, "out of memory (audit)"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), 1, "out of memory (audit)"),
        (MemoryError("no more"), 2, None),  # the other process would wait for this one
        (RuntimeError("a mistake of ours"), 1, None),
    ],
)
def test_runs_that_are_trained_do_not_fail_with_a_probe(error, size, reason, monkeypatch):
    prepared, session, _, results = fakes(monkeypatch)

    def fails(*_):
        raise error

    monkeypatch.setattr(audits, "look", fails)
    monkeypatch.setattr(audits.ranks, "size", lambda: size)
    probe = OpenProbe(bias_probes(prepared.recipe.evaluation.bias)[0], {"data": "pairs.csv"}, None, None)
    arguments = prepared, session, (probe,), SimpleNamespace(no_room_for_audit=lambda: None)
    if reason is None:
        with pytest.raises(type(error)):
            audits.audit_after(*arguments)
        return
    audits.audit_after(*arguments)
    [entry] = results["bias"]["probes"]
    assert entry["after"] is None
    assert reason in entry["after_reason"]


def test_runs_quote_a_text_that_is_too_long_to_be_read():
    with pytest.raises(FinetuneError, match="the text 'a long one' has more than 3 tokens"):
        _require_room([{"text": "short"}, {"text": "a long one"}], [b"1", None], 3)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--swaps", "--language", "en", "--hateful-label", "bda"], "no label 'bda'; it has bad and good"),
        (["--swaps", "--language", "xx"], "no list of terms comes along for the language 'xx'"),
        (["--swaps"], "error: --language is missing"),
        (
            ["--swaps", "--language", "pt_BR"],
            "error: --language: expected two or three lower-case letters, as pt, found 'pt_BR'\n",
        ),
        (["--groups", "a_file.csv", "--language", "en"], "error: --hateful-label is missing"),
        (["--groups", "nothere.csv", "--language", "en", "--hateful-label", "bad"], "nothere.csv: no such file"),
        (["--by", "sied"], "no column 'sied'"),
    ],
)
def test_runs_refuse_a_probe_that_cannot_be(audited, arguments, said, capsys):
    record = (audited / "run.json").read_bytes()
    assert main(["audit", str(audited), *arguments]) == 1
    assert said in capsys.readouterr().err
    assert (audited / "run.json").read_bytes() == record


def test_runs_of_another_language_are_not_probed(audited, tmp_path):
    record = json.loads((audited / "run.json").read_text())
    stated = {**record, "recipe": {**record["recipe"], "hub": {**record["recipe"]["hub"], "language": ["pt-BR"]}}}
    try:
        (audited / "run.json").write_text(json.dumps(stated))
        section = audit(Request(str(audited), [{"probe": "swaps", "language": "en"}]))
        assert section["probes"][0]["after"] is None
        assert "the probe is in en, and the model's language is stated as pt" in section["probes"][0]["after_reason"]
    finally:
        (audited / "run.json").write_text(json.dumps(record))


def test_runs_checkpoints_are_audited_too(checkpoints, audited, tmp_path, capsys):
    pairs = audited.parent.parent / "pairs.csv"
    assert main(["audit", str(checkpoints("gpt2")), "--pairs", str(pairs)]) == 0
    printed = capsys.readouterr().out
    assert "stereotype preferred" in printed
    assert printed.splitlines()[1].split()[:3] == ["group", "measure", "checkpoint"]
    stated = tmp_path / "stated"
    shutil.copytree(checkpoints("gpt2"), stated)
    (stated / "README.md").write_text("---\nlanguage: pt\n---\n")
    assert main(["audit", str(stated), "--pairs", str(pairs), "--language", "en", "--json"]) == 0
    section = json.loads(capsys.readouterr().out)
    assert section["of"] == "checkpoint"
    assert "stated as pt" in section["probes"][0]["before_reason"]
    cases = {"probe": "groups", "file": str(pairs.with_name("cases.jsonl")), "language": "en", "hateful_label": "bad"}
    [entry] = audit(Request(str(audited / "model"), [cases]))["probes"]
    [known] = [one for one in read_run(audited).bias["probes"] if one["form"] == "hatecheck"]
    assert rounded(entry["before"]) == rounded(known["after"])  # a saved classifier is a checkpoint with a head
    [entry] = audit(Request(str(checkpoints("bert")), [cases]))["probes"]
    assert "no trained classifier" in entry["before_reason"]
    assert "so it gives no labels" in entry["before_reason"]
    with pytest.raises(FinetuneError, match="no probe is named"):
        audit(Request(str(checkpoints("bert"))))


def test_runs_classifiers_without_a_padding_token_are_audited(checkpoints, audited, tmp_path):
    import transformers

    folder, cases = tmp_path / "classifier", audited.parent.parent / "cases.jsonl"
    model = transformers.AutoModelForSequenceClassification.from_pretrained(checkpoints("openai-gpt"))
    model.save_pretrained(folder)
    transformers.AutoTokenizer.from_pretrained(checkpoints("openai-gpt")).save_pretrained(folder)
    probe = {"probe": "groups", "file": str(cases), "language": "en", "hateful_label": "LABEL_1"}
    [entry] = audit(Request(str(folder), [probe]))["probes"]
    assert {one["n"] for one in entry["before"]["findings"]} == {8}
    tensors = {name: tensor for name, tensor in model.state_dict().items() if name != "score.weight"}
    model.save_pretrained(folder, state_dict=tensors)
    [entry] = audit(Request(str(folder), [probe]))["probes"]
    assert entry["before_reason"] == "the checkpoint lacks weights of its classifier, so it gives no labels to texts"


def test_runs_recipe_of_a_run_loads_back_with_its_files(audited):
    recipe = load_recipe(audited / "recipe.yaml").recipe
    assert recipe.evaluation.bias[1]["file"] == str(audited.parent.parent / "cases.jsonl")
