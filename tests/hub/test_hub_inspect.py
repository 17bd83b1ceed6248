"""Inspect and the hub: the configuration and the header of the weights are fetched, and no weights."""

import json

import pytest

from tests.hub.content import checkpoint
from tests.hub.sessions import closed_address, run_commands
from tests.hub.stand_in import Repository, serve

MODEL = "distilbert/distilbert-base-uncased"


def padded(model: Repository) -> Repository:
    """Return a checkpoint whose weights are far larger than their header, as real ones are."""
    files = dict(model.files)
    content = files["model.safetensors"]
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    end = max(entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__")
    header["padding.weight"] = {"dtype": "F32", "shape": [1_000_000], "data_offsets": [end, end + 4_000_000]}
    text = json.dumps(header).encode()
    files["model.safetensors"] = len(text).to_bytes(8, "little") + text + content[8 + length :] + bytes(4_000_000)
    return Repository("models", model.id, files)


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    """Inspect what is there and what is not: (checkpoint, answers, what was asked, bytes that came of the weights)."""
    folder = tmp_path_factory.mktemp("hub")
    model = padded(checkpoint(MODEL, folder / "made"))
    pickle = {"config.json": model.files["config.json"], "pytorch_model.bin": b"pickled"}
    repositories = [
        model,
        Repository("models", "owner/gated", model.files, gated=True),
        Repository("models", "owner/pickle", pickle),
        Repository("models", "owner/data", {"README.md": b"# No model\n"}),
    ]
    commands = [
        ["inspect", name, "--json", *rest]
        for name, *rest in (
            [MODEL], ["owner/pickle"], ["owner/gated"], ["owner/absent"], ["owner/data"], [MODEL, "--revision", "v9"],
        )
    ]  # fmt: skip
    with serve(repositories) as hub:
        answers = run_commands(folder, hub.url, commands)
        asked = list(hub.requests)
    cached = sum(path.stat().st_size for path in (folder / "hf").rglob("*") if path.is_file())
    return model, answers, asked, cached


def test_hub_inspect_reads_a_checkpoint_without_its_weights(session):
    model, answers, _, cached = session
    report = answers[0].record
    assert (report["kind"], report["revision"]) == ("encoder-only", model.commit)
    assert report["parameters"]["total"] > 1_000_000
    assert report["dtypes"] == ["F32"]
    assert cached < 100_000


def test_hub_inspect_of_pickled_weights_never_fetches_them(session):
    _, answers, asked, _ = session
    report = answers[1].record
    assert report["parameters"] is None
    assert "not opened" in report["notes"][0]
    assert [path for _, path in asked if path.endswith(".bin")] == []


@pytest.mark.parametrize(
    ("number", "words"),
    [(2, "gated"), (3, "no such folder, run or checkpoint"), (4, "no config.json"), (5, "no revision v9")],
)
def test_hub_inspect_error_is_one_line_and_a_hint(number, words, session):
    message, _ = session[1][number].error
    assert words in message


def test_hub_inspect_out_of_reach_is_one_error(tmp_path):
    [answer] = run_commands(tmp_path, closed_address(), [["inspect", MODEL]], impatient=True)
    message, hint = answer.error
    assert "the hub cannot be asked" in message
    assert "finetune doctor" in hint
