"""The way to the hub breaks: halfway, by a limit, by silence. One clear error, and the next run goes on.

All cases are commands of one process, each with repositories of its own and what is to go wrong with their requests.
"""

import pytest

from tests.hub.content import checkpoint, glue
from tests.hub.sessions import run_commands
from tests.hub.stand_in import Fault, Repository, serve
from tests.hub.test_hub_runs import MODEL, command

pytestmark = pytest.mark.slow

FOR_EVER = 100
DEAD = ["half", *["drop"] * 6]  # the client resumes what broke off, and gives up after six answers without a byte
MODEL_KEY, DATA_KEY = "model.name_or_path", "dataset.path"

# repository: (the key that names it, requests and what goes wrong with them, words of the error, words of the hint)
BROKEN = {
    "owner/cut-model": (MODEL_KEY, r"GET /cdn/", DEAD, ["could not be loaded", "broke off"], "run it again"),
    "owner/cut-data": (DATA_KEY, r"GET /cdn/", DEAD, ["broke off"], "run it again"),
    "owner/limited-model": (MODEL_KEY, r"resolve/", [429] * FOR_EVER, ["429", "could not"], "hf auth login"),
    "owner/limited-data": (DATA_KEY, r"GET /cdn/", [429] * FOR_EVER, ["429"], "hf auth login"),
    "owner/ill-model": (MODEL_KEY, r"resolve/", [503] * FOR_EVER, ["out of order", "503"], "later"),
    "owner/ill-data": (DATA_KEY, r"/api/", [503] * FOR_EVER, ["out of order", "503"], "later"),
    "owner/silent-model": (MODEL_KEY, r"GET /cdn/", ["hang"] * FOR_EVER, ["in time"], "HF_HUB_DOWNLOAD_TIMEOUT=60"),
    "owner/silent-data": (DATA_KEY, r"GET /cdn/", ["hang"] * FOR_EVER, ["in time"], "HF_HUB_DOWNLOAD_TIMEOUT=60"),
}
HEALED = [name for name, case in BROKEN.items() if case[2] is DEAD]


def with_older(newest: Repository) -> Repository:
    """Return a repository with an older commit, of which the weights and the readme differ."""
    files = dict(newest.files)
    files["README.md"] += b"\nThe first version.\n"
    if "model.safetensors" in files:
        files["model.safetensors"] = files["model.safetensors"][:-4] + bytes(4)
    older = Repository(newest.kind, newest.id, files)
    return Repository(newest.kind, newest.id, newest.files, older=(older,))


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    """Run every case, those that heal twice: (answers by name, repositories by name, what was asked)."""
    folder = tmp_path_factory.mktemp("hub")
    model, data = with_older(checkpoint(MODEL, folder / "made")), with_older(glue())
    copies = [
        Repository("models", name, model.files) if case[0] == MODEL_KEY else Repository("datasets", name, data.files)
        for name, case in BROKEN.items()
    ]
    once = Repository("models", "owner/cut-once", model.files)
    faults = [Fault(rf"{what}.*{name}|{name}.*{what}", [*kinds]) for name, (_, what, kinds, _, _) in BROKEN.items()]
    faults.append(Fault(r"GET /cdn/.*owner/cut-once", ["half"]))
    commands = {
        **{name: command(f"{case[0]}={name}") for name, case in BROKEN.items()},
        **{f"{name} again": command(f"{BROKEN[name][0]}={name}") for name in HEALED},
        "owner/cut-once": command(f"{MODEL_KEY}=owner/cut-once"),
        "newest": command(),
        "pinned": command(
            f"model.revision={model.older[0].commit}", f"dataset.revision={data.older[0].commit}", "--output-dir", "old"
        ),
    }
    with serve([model, data, once, *copies], faults) as hub:
        quick = {"HF_HUB_DOWNLOAD_TIMEOUT": "1", "HF_HUB_ETAG_TIMEOUT": "1"}
        answers = run_commands(folder, hub.url, list(commands.values()), impatient=True, **quick)
        return dict(zip(commands, answers, strict=True)), {"model": model, "data": data}, list(hub.requests)


@pytest.mark.parametrize("name", BROKEN)
def test_what_breaks_is_one_error(name, session):
    message, hint = session[0][name].error
    _, _, _, words, in_hint = BROKEN[name]
    assert [word for word in (name, *words) if word not in message] == [], message
    assert in_hint in hint.replace("Run it", "run it")


@pytest.mark.parametrize("name", [*(f"{name} again" for name in HEALED), "owner/cut-once"])
def test_a_run_after_a_break_succeeds(name, session):
    record = session[0][name].record
    assert record["status"] == "completed"
    assert record["model"]["init"] == "pretrained"


def test_a_pinned_revision_is_what_is_fetched(session):
    answers, repositories, asked = session
    for name, kind in (("model", "model"), ("data", "dataset")):
        older = repositories[name].older[0]
        assert answers["newest"].record[kind]["revision"] == repositories[name].commit != older.commit
        assert answers["pinned"].record[kind]["revision"] == older.commit
    weights = repositories["model"].older[0].entry("model.safetensors")["lfs"]["oid"]
    assert any(weights in path for _, path in asked)
    assert any(f"resolve/{repositories['data'].older[0].commit}/" in path for _, path in asked)
