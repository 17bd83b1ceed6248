"""finetune.inspection.probe: masks proven on every family, and a model that does not do as it says is found out."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from finetune.errors import FinetuneError
from finetune.inspection.ask import ask_heads, ask_probe
from finetune.inspection.inspect import inspect_checkpoint
from finetune.inspection.probe import probe_heads, probe_masks
from tests.inspection.test_anatomy import KINDS
from tests.tiny import FAMILIES


def inspected(folder):
    return inspect_checkpoint(str(folder), Path("no-runs"))


def request(found, **words):
    place = {"reference": "x", "place": found.source.place, "revision": None, "kind": found.kind}
    return {**place, "masks": [asdict(mask) for mask in found.masks], **words}


@pytest.mark.parametrize("family", KINDS)
def test_probe_proves_the_masks_of_every_family(family, any_checkpoint):
    found = inspected(any_checkpoint(family))
    answer = probe_masks(request(found))
    assert [entry["agrees"] for entry in answer["masks"]] == [True] * len({(m.stack, m.target) for m in found.masks})
    assert None not in [entry["agrees"] for entry in answer["windows"]] or family == "longformer"
    assert False not in [entry["agrees"] for entry in answer["windows"]]
    for entry in answer["masks"]:
        if entry["measured"] == "causal":
            assert entry["changes"]["later"] == {"changed": 0, "of": 45, "largest_change": 0.0}  # equal to the bit
            assert entry["changes"]["earlier"]["changed"] > 0
        elif entry["measured"] == "bidirectional":
            assert entry["changes"]["later"]["changed"] == entry["changes"]["later"]["of"] > 0
        else:
            assert entry["changes"]["all"]["changed"] == entry["changes"]["all"]["of"] == 80


@pytest.mark.parametrize(("family", "measured"), [("mamba", "causal"), ("rwkv", "causal"), ("xlnet", "bidirectional")])
def test_probe_tells_what_a_model_without_such_attention_does(family, measured, any_checkpoint):
    [entry] = probe_masks(request(inspected(any_checkpoint(family))))["masks"]
    assert entry["measured"] == measured
    assert "agrees" not in entry


def test_probe_finds_out_a_model_that_is_not_what_is_expected(any_checkpoint):
    found = inspected(any_checkpoint("bert"))
    asked = request(found)
    asked["masks"][0]["pattern"] = "causal"
    [entry] = probe_masks(asked)["masks"]
    assert (entry["measured"], entry["agrees"]) == ("bidirectional", False)


def test_probe_finds_out_a_window_that_is_not_there(any_checkpoint):
    asked = request(inspected(any_checkpoint("gpt2")))
    asked["masks"] = [{**asked["masks"][0], "window": 8}]
    [window] = probe_masks(asked)["windows"]
    assert (window["layers"], window["agrees"]) == (0, False)


@pytest.mark.parametrize("family", ["bert", "gpt2", "t5", "bart"])
def test_heads_attend_in_shares_that_add_up_to_one_over_real_tokens(family, checkpoints):
    answer = probe_heads(request(inspected(checkpoints(family)), sentence="what a lovely day it was"))
    assert set(answer["parts"]) == ({"encoder", "decoder", "cross"} if family in ("t5", "bart") else {"self"})
    tokens = len(answer["tokens"])
    for layers in answer["parts"].values():
        assert (len(layers), len(layers[0])) == (2, 2)
        for row in layers[-1][-1]:
            assert len(row) == tokens
            assert sum(row) == pytest.approx(1, abs=0.01)
    if family == "gpt2":
        assert all(value == 0 for i, row in enumerate(answer["parts"]["self"][0][0]) for value in row[i + 1 :])


def test_ask_runs_the_probe_in_a_process_of_its_own(checkpoints):
    answer = ask_probe(inspected(checkpoints("opt")))
    assert [entry["agrees"] for entry in answer["masks"]] == [True]


def test_ask_hands_on_an_error_of_the_probe(any_checkpoint):
    with pytest.raises(FinetuneError, match="has no tokenizer"):
        ask_heads(inspected(any_checkpoint("roberta")), "some words")


def test_ask_refuses_what_takes_no_text_and_families_nobody_knows(any_checkpoint, tmp_path):
    with pytest.raises(FinetuneError, match="images"):
        ask_probe(inspected(any_checkpoint("vit")))
    with pytest.raises(FinetuneError, match="no attention to show"):
        ask_heads(inspected(any_checkpoint("mamba")), "some words")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "new", "architectures": ["NewForCausalLM"]}))
    with pytest.raises(FinetuneError, match="transformers has no family new"):
        ask_probe(inspected(tmp_path))


def test_probe_refuses_a_checkpoint_without_safetensors(any_checkpoint, tmp_path):
    (tmp_path / "config.json").write_bytes((any_checkpoint("bert") / "config.json").read_bytes())
    (tmp_path / "pytorch_model.bin").write_bytes(b"pickled")
    with pytest.raises(FinetuneError, match="could not be loaded") as caught:
        probe_masks(request(inspected(tmp_path)))
    assert "safetensors" in caught.value.hint


def test_every_family_of_the_tests_is_probed():
    assert set(FAMILIES) < set(KINDS)
