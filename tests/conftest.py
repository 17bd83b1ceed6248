"""What every test shares: no network, no inherited settings, tiny checkpoints made once a session."""

import json
import os
import signal
import socket
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ.setdefault("OMP_NUM_THREADS", "1")
# A job in the background ignores Ctrl-C and hang-ups, and would pass that on to the processes of the tests.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
for name in [name for name in os.environ if name.startswith(("FINETUNE_", "CODECARBON_"))]:
    del os.environ[name]

import pytest

from tests import tiny

_LOOPBACK = {"127.0.0.1", "::1", "localhost", ""}


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """Refuse every connection that leaves the machine."""
    connect = socket.socket.connect

    def guarded(self, address):
        if isinstance(address, tuple) and address[0] not in _LOOPBACK:
            raise OSError(f"a test reached for the network: {address}")
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    """Keep the tokenised data of tests away from the user's cache."""
    monkeypatch.setenv("FINETUNE_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(autouse=True)
def own_host_folder(tmp_path_factory, monkeypatch):
    """Keep runs of tests and other runs of this machine from meeting."""
    monkeypatch.setenv("FINETUNE_HOST_FOLDER", str(tmp_path_factory.mktemp("host")))


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory):
    """Return a function that makes the checkpoint of a family once: checkpoints("bert"), dropout as wanted."""
    made: dict[tuple[str, float], Path] = {}

    def of(family: str, dropout: float = 0.0) -> Path:
        if (family, dropout) not in made:
            folder = tmp_path_factory.mktemp(f"{family}-{dropout}".replace(".", "_"))
            made[family, dropout] = tiny.make_checkpoint(family, folder, dropout)
        return made[family, dropout]

    return of


@pytest.fixture(scope="session")
def toy_data(tmp_path_factory):
    """Return a folder with the toy task: 64 training, 16 validation and 16 test rows."""
    folder = tmp_path_factory.mktemp("toy")
    rows = tiny.toy_rows()
    parts = {"train": rows[:64], "validation": rows[64:80], "test": rows[80:]}
    for split, part in parts.items():
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))
    return folder


@pytest.fixture
def toy_recipe(checkpoints, toy_data, tmp_path):
    """Return a function that writes a recipe for the toy task: toy_recipe("bert", training={...}) → its path."""
    import yaml

    def write(family: str = "bert", dropout: float = 0.0, filename: str = "toy.yaml", **sections) -> Path:
        recipe = {
            "task": "text-classification",
            "model": {"name_or_path": str(checkpoints(family, dropout))},
            "dataset": {"path": str(toy_data)},
            "training": {
                "num_train_epochs": 2,
                "per_device_train_batch_size": 8,
                "learning_rate": 5e-3,
                "logging_steps": 1,
                "mixed_precision": "no",
            },
            "emissions": {"country_iso_code": "BRA"},
            "output_dir": str(tmp_path / "runs"),
        }
        for name, values in sections.items():
            recipe[name] = {**recipe[name], **values} if isinstance(recipe.get(name), dict) else values
        path = tmp_path / filename
        path.write_text(yaml.safe_dump(recipe, sort_keys=False))
        return path

    return write


@pytest.fixture(scope="session")
def toy_runs(checkpoints, toy_data, tmp_path_factory):
    """Return a folder with one finished run of the toy task, called toy; what a test changes, it copies first."""
    import yaml

    from finetune.cli.app import main

    folder = tmp_path_factory.mktemp("toy-runs")
    recipe = {
        "task": "text-classification",
        "model": {"name_or_path": str(checkpoints("gpt2"))},
        "dataset": {"path": str(toy_data)},
        "training": {"max_steps": 20, "per_device_train_batch_size": 8, "learning_rate": 5e-3, "save_strategy": "no",
                     "load_best_model_at_end": False},
        "evaluation": {"baselines": []},
        "emissions": {"country_iso_code": "BRA"},
    }  # fmt: skip
    (folder / "toy.yaml").write_text(yaml.safe_dump(recipe))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FINETUNE_CACHE", str(folder / "cache"))
        assert main(["run", str(folder / "toy.yaml"), "--output-dir", str(folder / "runs")]) == 0
    return folder / "runs"
