"""finetune.data.reference_answers and squad_files: shapes of answers, places that are wrong, SQuAD's nested files."""

import json
from pathlib import Path

import pytest

from finetune.data.files import read_file
from finetune.data.sources import load_data
from finetune.errors import FinetuneError
from finetune.recipe.schema import Recipe
from finetune.tasks import all_tasks

TASK = all_tasks()["question-answering"]
MESSY = Path(__file__).parents[2].parent / "shared" / "data" / "messy" / "squad_nested_bad_offsets.json"
CONTEXT = "Ana sings in Lisbon. Rui sings in Porto."


def row_of(text="Porto", start=34, question="Where does Rui sing?"):
    return {"question": question, "context": CONTEXT, "answers": {"text": [text], "answer_start": [start]}}


def load(tmp_path, rows, validation=None, filename="train.jsonl"):
    data = tmp_path / "data"
    data.mkdir(exist_ok=True)
    (data / filename).write_text("".join(json.dumps(row) + "\n" for row in rows))
    (data / "validation.jsonl").write_text("".join(json.dumps(row) + "\n" for row in validation or [row_of()]))
    return read(data)


def read(path):
    section = {"task": TASK.name, "model": {"name_or_path": "any"}, "dataset": {"path": str(path)}}
    return load_data(Recipe.model_validate(section), TASK)


def answers_of(data, split="train"):
    return [row["answers"] for row in data.splits[split]]


def test_answers_come_as_lists_as_objects_or_alone(tmp_path):
    for shape in (
        {"text": ["Porto"], "answer_start": [34]},
        [{"text": "Porto", "answer_start": 34}],
        {"text": "Porto", "answer_start": 34},
    ):
        data = load(tmp_path, [row_of() | {"answers": shape}] * 2)
        assert answers_of(data) == [{"text": ["Porto"], "answer_start": [34]}] * 2
        assert data.labels.problem_type == "squad"


def test_an_answer_at_a_wrong_place_is_sought_nearby(tmp_path):
    data = load(tmp_path, [row_of("sings", 22), row_of("sings", 0), row_of(" Porto", 33), row_of()])
    assert [answers["answer_start"] for answers in answers_of(data)] == [[25], [4], [34], [34]]
    assert answers_of(data)[2]["text"] == ["Porto"]
    assert "train: 2 answers did not stand at answer_start; the nearest place was taken." in data.notes


def test_an_answer_that_stands_nowhere_is_dropped_and_said(tmp_path):
    data = load(tmp_path, [row_of("Madrid", 13)] + [row_of()] * 29)
    assert len(answers_of(data)) == 29
    assert data.dropped["train"] == 1
    assert any("train.jsonl:1: the answer 'Madrid' stands nowhere in its context" in note for note in data.notes)


def test_many_answers_that_stand_nowhere_are_an_error(tmp_path):
    with pytest.raises(FinetuneError, match=r"train.jsonl:2: the answer 'Madrid' stands nowhere .*in 2 of 10 rows"):
        load(tmp_path, [row_of(), row_of("Madrid", 13), row_of("Rome", 0)] + [row_of()] * 7)


def test_questions_without_an_answer_make_it_squad_2(tmp_path):
    empty = row_of() | {"answers": {"text": [], "answer_start": []}}
    data = load(tmp_path, [empty, row_of()], validation=[empty, row_of()])
    assert data.labels.problem_type == "squad_v2"
    assert answers_of(data)[0] == answers_of(data, "validation")[0] == {"text": [], "answer_start": []}
    assert "train: 1 of 2 questions have no answer (SQuAD 2.0)." in data.notes


def test_other_columns_are_refused_with_the_shape(tmp_path):
    with pytest.raises(FinetuneError, match="where answers with their places are meant") as error:
        load(tmp_path, [row_of() | {"answers": "Porto"}])
    assert '"answer_start"' in error.value.hint
    with pytest.raises(FinetuneError, match="1 answer text and 2 answer starts"):
        load(tmp_path, [row_of() | {"answers": {"text": ["Porto"], "answer_start": [34, 35]}}])
    with pytest.raises(FinetuneError, match="no column is named as a context usually is"):
        load(tmp_path, [{"question": "Where?", "answers": row_of()["answers"]}])


def nested(*questions):
    return {
        "version": "v2.0",
        "data": [{"title": "Song", "paragraphs": [{"context": CONTEXT, "qas": list(questions)}]}],
    }


def test_nested_squad_gives_a_row_for_each_question(tmp_path):
    path = tmp_path / "squad.json"
    answered = {"id": "a", "question": "Who?", "answers": [{"text": "Rui", "answer_start": 21}], "is_impossible": False}
    path.write_text(json.dumps(nested(answered, {"id": 7, "question": "When?", "answers": [], "is_impossible": True})))
    rows = read_file(path).read(["id", "title", "question", "context", "answers"]).to_pylist()
    assert rows == [
        {"id": "a", "title": "Song", "question": "Who?", "context": CONTEXT,
         "answers": {"text": ["Rui"], "answer_start": [21]}},
        {"id": "7", "title": "Song", "question": "When?", "context": CONTEXT,
         "answers": {"text": [], "answer_start": []}},
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("question", "said"),
    [
        ({"answers": []}, "article 1, paragraph 1, question 1: question is no text"),
        ({"question": "Who?", "answers": ["Rui"]}, "question 1: answers is no list of objects"),
        ({"question": "Who?", "answers": [{"text": "Rui"}]}, "an answer has no text or no answer_start"),
    ],
)
def test_nested_squad_that_is_broken_names_the_place(tmp_path, question, said):
    path = tmp_path / "squad.json"
    path.write_text(json.dumps(nested(question)))
    with pytest.raises(FinetuneError, match=said):
        read_file(path)


@pytest.mark.skipif(not MESSY.exists(), reason="the shared data is not on this machine")
def test_a_real_nested_file_with_wrong_offsets_is_read(tmp_path):
    data = read(MESSY)
    assert sum(map(len, data.splits.values())) + data.dropped["train"] == 63
    for split in data.splits.values():
        for row in split:
            for text, start in zip(row["answers"]["text"], row["answers"]["answer_start"], strict=True):
                assert start == -1 or row["context"][start : start + len(text)] == text
