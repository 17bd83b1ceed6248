"""Init and the hub: columns are read from a dataset's card, else from its first rows, and nothing else is fetched."""

import pytest
import yaml

from tests.hub.content import glue, imdb, squad
from tests.hub.sessions import run_commands
from tests.hub.stand_in import Repository, serve

pytestmark = pytest.mark.slow  # seconds of imports in a process of its own
PLAIN = Repository("datasets", "owner/plain", {"train.csv": b"review,stars\nso good,5\nso bad,1\n" * 9})


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    """Write a recipe for each of some datasets: (folder, answers by name, what was asked)."""
    folder = tmp_path_factory.mktemp("hub")
    datasets = [imdb(), squad(), glue(), PLAIN]
    names = [dataset.id for dataset in datasets]
    commands = [["init", f"{name.replace('/', '-')}.yaml", "--data", name] for name in names]
    commands[-1] += ["--column", "text=review", "--column", "label=stars"]
    with serve(datasets) as hub:
        answers = run_commands(folder, hub.url, commands)
        return folder, dict(zip(names, answers, strict=True)), list(hub.requests)


def written(session, name):
    folder, answers, _ = session
    assert answers[name].code == 0, answers[name].err
    text = (folder / f"{name.replace('/', '-')}.yaml").read_text(encoding="utf-8")
    return yaml.safe_load(text), text


def test_init_finds_task_columns_and_labels_in_the_card_of_a_dataset(session):
    recipe, text = written(session, "stanfordnlp/imdb")
    assert (recipe["task"], recipe["dataset"]["columns"]) == ("text-classification", {"text": "text", "label": "label"})
    assert "48 rows in train, 12 rows in test" in text
    assert "2 labels: neg, pos" in text
    recipe, text = written(session, "rajpurkar/squad")
    columns = {"question": "question", "context": "context", "answers": "answers"}
    assert (recipe["task"], recipe["dataset"]["columns"]) == ("question-answering", columns)
    assert "48 rows in train, 12 rows in validation" in text
    assert "validation_size" not in text
    asked = [path for _, path in session[2] if "imdb" in path or "squad" in path]
    assert [path for path in asked if "/cdn/" in path or ("/resolve/" in path and path.endswith(".parquet"))] == []


def test_init_reads_the_first_rows_of_a_dataset_without_a_card(session):
    recipe, text = written(session, "owner/plain")
    assert recipe["dataset"]["columns"] == {"text": "review", "label": "stars"}
    assert "splits train" in text
    assert "columns review, stars" in session[1]["owner/plain"].out


def test_init_says_that_a_dataset_has_several_configurations(session):
    said = session[1]["nyu-mll/glue"].err
    assert "has several configurations: mrpc, sst2 and stsb. Pick one: dataset.name: mrpc" in said
    assert "columns: {text: text, label: label}" in written(session, "nyu-mll/glue")[1]
