"""The stand-in speaks as the hub does: checked with huggingface_hub's own client and with bare requests."""

import urllib.error
import urllib.request

import pytest

from tests.hub.stand_in import Repository, serve

MODEL = Repository("models", "owner/model", {"config.json": b"{}", "model.safetensors": bytes(range(100))})
DATA = Repository("datasets", "owner/data", {"README.md": b"# Data\n", "sub/train-0.parquet": b"PAR1" * 9})
GATED = Repository("models", "owner/gated", {"config.json": b"{}"}, gated=True)


@pytest.fixture(scope="module")
def hub():
    with serve([MODEL, DATA, GATED]) as running:
        yield running


@pytest.fixture
def api(hub, monkeypatch):
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    return huggingface_hub.HfApi(endpoint=hub.url, token=False)


def ask(hub, path: str, method: str = "GET", **headers: str):
    return urllib.request.urlopen(urllib.request.Request(hub.url + path, method=method, headers=headers))


def test_stand_in_gives_part_of_a_large_file(hub):
    answer = ask(hub, "/owner/model/resolve/main/model.safetensors", Range="bytes=10-19")
    assert (answer.status, answer.read()) == (206, bytes(range(10, 20)))
    assert answer.headers["Content-Range"] == "bytes 10-19/100"


def test_stand_in_answers_a_head_without_the_body(hub):
    answer = ask(hub, "/owner/model/resolve/main/config.json", "HEAD")
    assert (answer.read(), answer.headers["Content-Length"]) == (b"", "2")
    assert answer.headers["X-Repo-Commit"] == MODEL.commit


def test_stand_in_lists_what_a_repository_holds(api):
    assert api.model_info("owner/model").sha == MODEL.commit
    assert api.list_repo_files("owner/data", repo_type="dataset") == ["README.md", "sub/train-0.parquet"]
    assert [entry.path for entry in api.list_repo_tree("owner/data", repo_type="dataset")] == ["sub", "README.md"]
    (entry,) = api.get_paths_info("owner/data", ["sub/train-0.parquet", "absent"], repo_type="dataset")
    assert (entry.size, entry.lfs.size) == (36, 36)


def test_stand_in_lets_a_commit_be_downloaded(api, tmp_path):
    where = api.hf_hub_download("owner/model", "model.safetensors", cache_dir=tmp_path)
    assert MODEL.commit in where
    with open(where, "rb") as file:
        assert file.read() == MODEL.files["model.safetensors"]


@pytest.mark.parametrize(
    ("repository", "file", "revision", "expected"),
    [
        ("owner/absent", "config.json", "main", "RepositoryNotFoundError"),
        ("owner/model", "absent.json", "main", "RemoteEntryNotFoundError"),
        ("owner/model", "config.json", "v9", "RevisionNotFoundError"),
        ("owner/gated", "config.json", "main", "GatedRepoError"),
    ],
)
def test_stand_in_refuses_as_the_hub_does(api, tmp_path, repository, file, revision, expected):
    with pytest.raises(Exception, match="Client Error") as caught:
        api.hf_hub_download(repository, file, revision=revision, cache_dir=tmp_path)
    assert type(caught.value).__name__ == expected


def test_stand_in_knows_no_other_page(hub):
    with pytest.raises(urllib.error.HTTPError, match="404"):
        ask(hub, "/api/whoami-v2")
