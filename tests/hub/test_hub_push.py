"""Pushing a run's model to the hub: what is uploaded, what is refused, what a broken upload costs."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
import yaml

from finetune.cli.app import main
from finetune.runs.record import read_run, write_run
from tests.hub.account import Commit, serve_account
from tests.runs.builders import make_run

TOKEN = "hf_" + "aB3" * 10
FILES = {
    "config.json": b"{}",
    "model.safetensors": b"weights" * 9,
    "tokenizer.json": b"{}",
    "tokenizer_config.json": b"{}",
}
ADAPTER = {"adapter_config.json": b'{"base": 1}', "adapter_model.safetensors": b"small"}
OURS = "finetune: model of run "


@pytest.fixture
def account(monkeypatch):
    """Serve an empty account, to which the environment is logged in."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub._commit_api.is_xet_available", lambda: False)
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with serve_account(TOKEN) as served:
        monkeypatch.setenv("HF_ENDPOINT", served.url)
        yield served


@pytest.fixture
def runs(tmp_path):
    """Return a function that makes a finished run with files of a model."""

    def make(name="toy", files=FILES, adapter=None, **fields):
        directory = tmp_path / f"{name}-20260901T120000Z-a1b2c3"
        for path, content in {**files, **{f"adapter/{key}": value for key, value in (adapter or {}).items()}}.items():
            (directory / "model" / path).parent.mkdir(parents=True, exist_ok=True)
            (directory / "model" / path).write_bytes(content)
        run = make_run(name, **fields)
        write_run(replace(run, run_id=directory.name), directory)
        return directory

    return make


@pytest.fixture
def push(tmp_path, capsys):
    """Return a function that pushes: (exit code, stdout, stderr), none of which holds the token."""

    def call(*arguments):
        capsys.readouterr()
        code = main(["push", *map(str, arguments), "--output-dir", str(tmp_path)])
        out, err = capsys.readouterr()
        assert TOKEN not in out + err
        assert "Traceback" not in err
        return code, out, err

    return call


def newest(account, name="me/toy", branch="main") -> Commit:
    return account.repositories[name].branches[branch][-1]


def test_push_makes_a_private_repository_with_model_and_card(account, runs, push):
    directory = runs()
    code, out, err = push("toy")
    assert (code, out) == (0, f"{account.url}/me/toy\n"), err
    assert account.repositories["me/toy"].private
    commit = newest(account)
    assert commit.title == OURS + directory.name
    assert {name: commit.files[name] for name in FILES} == FILES
    card = commit.files["README.md"].decode()
    assert yaml.safe_load(card.split("---\n")[1])["library_name"] == "transformers"
    assert "me/toy" in card
    assert f"model of {directory.name} → {account.url}/me/toy: 5 files" in err
    assert "model.safetensors" in err
    for path in directory.rglob("*"):
        assert not path.is_file() or TOKEN.encode() not in path.read_bytes()


def test_push_again_changes_nothing_and_a_changed_run_is_brought_up_to_date(account, runs, push):
    directory = runs()
    assert push("toy")[0] == 0
    count = len(account.repositories["me/toy"].branches["main"])
    assert push("toy")[0] == 0
    assert len(account.repositories["me/toy"].branches["main"]) == count
    assert len(account.uploads()) == 1
    (directory / "model" / "model.safetensors").write_bytes(b"other weights")
    (directory / "model" / "tokenizer.json").unlink()
    assert push("toy")[0] == 0
    assert newest(account).files["model.safetensors"] == b"other weights"
    assert "tokenizer.json" not in newest(account).files
    assert ".gitattributes" in newest(account).files


def test_push_never_replaces_what_is_not_its_own(account, runs, push):
    account.add("me/toy", True, Commit("Add my notes", {"README.md": b"# Mine"}))
    runs()
    code, _, err = push("toy")
    assert code == 1
    assert "me/toy, branch main, has a commit that is not of finetune: 'Add my notes'" in err
    assert "--revision toy" in err
    assert "--force" in err
    assert newest(account).title == "Add my notes"
    assert push("toy", "--revision", "toy")[0] == 0
    assert newest(account).title == "Add my notes"
    assert set(newest(account, branch="toy").files) == {".gitattributes", "README.md", *FILES}
    assert push("toy", "--force")[0] == 0
    assert newest(account).title.startswith(OURS)
    assert newest(account).files["README.md"] != b"# Mine"


def test_push_does_not_replace_the_model_of_another_run(account, runs, push):
    runs("first")
    runs("second")
    assert push("first", "--to", "both")[0] == 0
    code, _, err = push("second", "--to", "me/both")
    assert code == 1
    assert "holds the model of another run, first-2026" in err


def test_push_shows_a_private_model_to_nobody(account, runs, push):
    account.add("me/toy", False)
    runs()
    code, _, err = push("toy")
    assert (code, "me/toy is public, and this push is private" in err) == (1, True)
    assert push("toy", "--public")[0] == 0
    assert push("toy", "--to", "open", "--public")[0] == 0
    assert not account.repositories["me/open"].private


def test_push_with_force_replaces_files_and_shows_them_to_nobody_else(account, runs, push):
    account.add("me/toy", False, Commit("Add my notes", {"README.md": b"# Mine"}))
    runs()
    for flags in (["--force"], ["--force", "--private"], ["--force", "--dry-run"], ["--force", "--json"]):
        code, out, err = push("toy", *flags)
        assert (code, out) == (1, ""), flags
        assert "me/toy is public, and this push is private" in err
    assert newest(account).title == "Add my notes"
    assert "has a commit that is not of finetune" in push("toy", "--public")[2]  # the other consent is not given
    code, out, _ = push("toy", "--public", "--force", "--json")
    assert (code, json.loads(out)["private"]) == (0, False)


def test_push_reports_who_may_really_see_the_repository(account, runs, push):
    account.add("me/toy", True)
    runs()
    for flags in (["--dry-run"], []):
        code, out, err = push("toy", "--public", "--json", *flags)
        assert (code, json.loads(out)["private"]) == (0, True)
        assert "me/toy is private and stays so" in err
    assert account.repositories["me/toy"].private
    assert json.loads(push("toy", "--to", "fresh", "--public", "--json", "--dry-run")[1])["private"] is False


def test_push_sends_nothing_twice_after_it_broke_off(account, runs, push):
    files = {**FILES, "model-2.safetensors": b"more weights"}
    runs(files=files)
    account.breaks = 1
    code, _, err = push("toy")
    assert code == 1
    assert "the upload broke off" in err
    assert "Push again" in err
    assert newest(account).title == "initial commit"
    sent = set(account.storage)
    account.requests.clear()
    assert push("toy")[0] == 0
    assert not sent & set(account.uploads())
    assert len(sent) + len(account.uploads()) == 2
    assert {name: newest(account).files[name] for name in files} == files


def test_push_dry_run_shows_and_uploads_nothing(account, runs, push):
    runs()
    code, out, err = push("toy", "--dry-run", "--json")
    assert (code, account.repositories, account.uploads()) == (0, {}, [])
    assert json.loads(out)["uploaded"] is False
    assert json.loads(out)["files"] == sorted([*FILES, "README.md"])
    assert "tokenizer.json" in err
    account.add("me/toy", True, Commit("Add my notes", {"README.md": b"# Mine"}))
    assert push("toy", "--dry-run")[0] == 1


def test_push_of_adapters_names_the_checkpoint_they_belong_to(account, runs, push):
    base = {"name_or_path": "owner/base", "revision": "c0ffee", "kind": "encoder-only"}
    recipe = {"task": "text-classification", "peft": {"method": "lora"}}
    runs(adapter=ADAPTER, model=base, recipe=recipe, dataset={"label_names": ["bad", "good"]})
    code, out, err = push("toy", "--json")
    assert (code, json.loads(out)["kind"]) == (0, "adapter"), err
    files = newest(account).files
    assert set(files) == {".gitattributes", "README.md", "tokenizer.json", "tokenizer_config.json", *ADAPTER}
    card = files["README.md"].decode()
    head = yaml.safe_load(card.split("---\n")[1])
    assert (head["base_model"], head["base_model_relation"], head["library_name"]) == ("owner/base", "adapter", "peft")
    assert 'PeftModel.from_pretrained(base, "me/toy")' in card
    assert """from_pretrained("owner/base", revision="c0ffee", id2label={0: 'bad', 1: 'good'})""" in card
    assert push("toy", "--merged")[0] == 0
    assert set(newest(account).files) == {".gitattributes", "README.md", *FILES}


def test_push_of_an_adapter_to_nothing_public_takes_the_whole_model(account, runs, push):
    runs(adapter=ADAPTER, model={"name_or_path": "../my-checkpoint"})
    _, _, err = push("toy")
    assert "its checkpoint is not on the hub" in err
    assert "model.safetensors" in newest(account).files


def test_push_says_who_may_not(account, runs, push, monkeypatch):
    runs()
    code, _, err = push("toy", "--to", "others/toy")
    assert (code, "The token may not write there" in err) == (1, True)
    assert "is no name of a repository" in push("toy", "--to", "me/a/b")[2]
    monkeypatch.setenv("HF_TOKEN", "hf_" + "x" * 30)
    assert "hf auth login" in push("toy", "--to", "me/toy")[2]
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    assert "nobody is logged in to" in push("toy")[2]
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert "hint: Run without --offline, or unset HF_HUB_OFFLINE." in push("toy")[2]


def test_push_of_a_run_without_a_model_says_so(account, runs, push):
    runs(files={"README.md": b"# Only a card"})
    assert "but its model is gone" in push("toy")[2]


def finished(directory):
    return SimpleNamespace(run=read_run(directory), print=lambda as_json: 0)


def test_a_recipe_pushes_the_model_of_its_run(account, runs, monkeypatch, capsys):
    hub = {"push_to_hub": True, "hub_model_id": "me/named", "hub_private_repo": True}
    directory = runs(recipe={"task": "text-classification", "hub": hub})
    monkeypatch.setattr("finetune.training.seeds.run_each_seed", lambda request, as_json: None)
    monkeypatch.setattr("finetune.training.start.start", lambda request: finished(directory))
    assert main(["run", "quickstart"]) == 0
    assert capsys.readouterr().err.endswith(f"pushed to {account.url}/me/named\n")
    assert newest(account, "me/named").title == OURS + directory.name
    account.add("me/named", True, Commit("Mine", {"README.md": b"# Mine"}))
    assert main(["run", "quickstart"]) == 1
    err = capsys.readouterr().err
    assert "the run is completed, but its model could not be pushed" in err
    assert f"finetune push {directory}" in err
    write_run(replace(read_run(directory), tags=("smoke",)), directory)
    assert main(["run", "quickstart"]) == 0


def test_a_run_that_is_to_be_pushed_does_not_begin_without_a_login(account, toy_recipe, monkeypatch, capsys):
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    monkeypatch.setattr("finetune.training.start.run", lambda *options: pytest.fail("it began"))
    assert main(["run", str(toy_recipe(hub={"push_to_hub": True}))]) == 1
    assert "nobody is logged in to" in capsys.readouterr().err
