import datasets
import pytest

from finetune.data.hub import is_hub_id, read_hub
from finetune.errors import FinetuneError

COMMIT = "bcdcba79d07bc864c1c254ccfcedcce55bcc9a8c"


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """Return a function that puts a builder of local files, or an error, in the place of the hub."""

    def serve(problem=None, commit=COMMIT):
        asked = {}

        def builder(path, **kwargs):
            asked.update(path=path, **kwargs)
            if problem is not None:
                raise problem
            kind = datasets.Features(
                {"sentence": datasets.Value("string"), "label": datasets.ClassLabel(names=["bad", "good"])}
            )
            split = datasets.Dataset.from_dict({"sentence": [f"s{i}" for i in range(20)], "label": [0, 1] * 10}, kind)
            split.to_parquet(tmp_path / "served.parquet")
            files = {name: str(tmp_path / "served.parquet") for name in ("train", "validation")}
            made = original("parquet", data_files=files, cache_dir=str(tmp_path / "cache"))
            made.hash = commit
            return made

        original = datasets.load_dataset_builder
        monkeypatch.setattr(datasets, "load_dataset_builder", builder)
        return asked

    return serve


def test_hub_dataset_is_loaded_with_its_commit(hub, load):
    asked = hub()
    loaded = load(path="owner/name", name="sst2", revision="main")
    assert asked == {"path": "owner/name", "name": "sst2", "revision": "main"}
    assert loaded.revision == COMMIT
    assert loaded.labels.names == ("bad", "good")
    assert loaded.columns == {"text": "sentence", "label": "label"}
    assert len(loaded.splits["validation"]) == 20


def test_hub_data_files_are_passed_on(hub):
    asked = hub()
    read_hub("owner/name", None, None, {"train": "a.csv"})
    assert asked["data_files"] == {"train": "a.csv"}


def test_hub_other_commit_than_asked_for_is_refused(hub):
    hub(commit="a" * 40)
    with pytest.raises(FinetuneError, match=f"revision {COMMIT} is not in the cache"):
        read_hub("owner/name", None, COMMIT)


def test_hub_offline_is_said(load):
    with pytest.raises(FinetuneError, match="owner/name: the hub cannot be reached") as caught:
        load(path="owner/name")
    assert "HF_HUB_OFFLINE" in caught.value.hint


MISSING = "Config name is missing.\nPlease pick one among the available configs: ['cola', 'sst2']\nExample"
PROBLEMS = {
    "config missing": (ValueError(MISSING), None, "several configurations: cola and sst2", "dataset.name: cola"),
    "config unknown": (
        ValueError("BuilderConfig 'sst' not found. Available: ['cola', 'sst2']"),
        "sst",
        "no configuration sst; it has cola and sst2",
        "dataset.name: sst2",
    ),
    "script": (
        RuntimeError("Dataset scripts are no longer supported, but found x.py"),
        None,
        "scripts are never run",
        "refs/convert/parquet",
    ),
    "gated": (
        datasets.exceptions.DatasetNotFoundError("Dataset 'owner/name' is a gated dataset on the Hub."),
        None,
        "gated",
        "hf auth login",
    ),
    "not found": (
        datasets.exceptions.DatasetNotFoundError(
            "Dataset 'owner/name' doesn't exist on the Hub or cannot be accessed."
        ),
        None,
        "no such dataset on the hub",
        "spelling",
    ),
    "revision": (
        datasets.exceptions.DatasetNotFoundError("Revision 'v9' doesn't exist for dataset 'owner/name' on the Hub."),
        None,
        "has no revision v9",
        "dataset.revision",
    ),
    "no data": (datasets.data_files.EmptyDatasetError("empty"), None, "holds no data files", "another"),
    "other": (OSError(28, "No space left on device"), None, "No space left on device", "Try again"),
}


@pytest.mark.parametrize("case", PROBLEMS)
def test_hub_problems_are_put_into_words(case, hub):
    problem, name, message, hint = PROBLEMS[case]
    hub(problem)
    with pytest.raises(FinetuneError) as caught:
        read_hub("owner/name", name, "v9")
    assert message in caught.value.message
    assert caught.value.message.startswith("owner/name: ")
    assert hint in caught.value.hint
    assert caught.value.__cause__ is problem


@pytest.mark.parametrize(
    ("listed", "has"), [("\nAvailable configs in the cache: ['cola', 'sst2']", ", which has cola and sst2"), ("", "")]
)
def test_hub_configuration_that_is_not_in_the_cache_is_said(hub, listed, has):
    hub(ValueError(f"Couldn't find cache for nyu-mll/glue for config 'mrpc'{listed}"))
    with pytest.raises(FinetuneError) as caught:
        read_hub("nyu-mll/glue", "mrpc", None)
    assert caught.value.message == f"configuration mrpc of nyu-mll/glue is not in the cache{has}"
    assert caught.value.hint == "Run once with a network."


def test_hub_several_configurations_in_the_cache_are_listed(hub):
    hub(ValueError("There are multiple 'a/b' configurations in the cache: cola, sst2\nPlease specify which"))
    with pytest.raises(FinetuneError, match="a/b: has several configurations: cola and sst2") as caught:
        read_hub("a/b", None, None)
    assert caught.value.hint == "Pick one: dataset.name: cola"


def test_hub_the_words_of_datasets_about_its_cache_are_these(tmp_path):
    from datasets.packaged_modules.cache.cache import Cache

    (tmp_path / "a___b" / "cola" / "0.0.0" / "abc").mkdir(parents=True)
    (tmp_path / "a___b" / "cola" / "0.0.0" / "abc" / "dataset_info.json").write_text('{"config_name": "cola"}')
    with pytest.raises(
        ValueError, match=r"Couldn't find cache for a/b for config 'mrpc'\nAvailable configs in the cache"
    ):
        Cache(cache_dir=str(tmp_path), dataset_name="b", repo_id="a/b", config_name="mrpc", version="auto", hash="auto")


@pytest.mark.parametrize(
    ("path", "expected"),
    [("imdb", True), ("nyu-mll/glue", True), ("./imdb", False), ("/data/x", False), ("a/b/c", False), ("~/x", False)],
)
def test_hub_ids_are_told_from_paths(path, expected):
    assert is_hub_id(path) is expected
