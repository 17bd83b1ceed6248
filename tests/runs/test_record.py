import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finetune.errors import FinetuneError
from finetune.runs.liveness import claim_run
from finetune.runs.record import (
    Run,
    Score,
    find_run,
    list_runs,
    names_a_run,
    new_run_directory,
    read_run,
    run_from_json,
    run_to_json,
    slug,
    write_run,
)
from finetune.runs.usable import model_folder
from tests.runs.builders import QUICKSTART, STORED, make_run

words = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
plain = (
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | words
)
values = st.recursive(
    plain, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3), max_leaves=6
)
sections = st.dictionaries(words, values, max_size=3)
runs = st.builds(
    Run,
    run_id=words,
    name=words,
    status=st.sampled_from(["completed", "stopped", "failed", "interrupted"]),
    status_reason=st.none() | words,
    tags=st.lists(words, max_size=3).map(tuple),
    created_at=st.none() | words,
    recipe=sections,
    metrics=sections,
    emissions=sections,
    timeline=st.lists(sections, max_size=2).map(tuple),
    extra=st.dictionaries(words.map(lambda word: f"new_{word}"), values, max_size=2),
)


@settings(max_examples=60, deadline=None)
@given(run=runs)
def test_record_survives_a_round_trip_with_unknown_fields(tmp_path_factory, run):
    directory = tmp_path_factory.mktemp("run")
    write_run(run, directory)
    assert read_run(directory) == run
    assert read_run(directory).directory == directory


def test_record_is_written_in_the_order_of_the_contract():
    names = list(run_to_json(make_run()))
    assert names[:7] == ["schema_version", "run_id", "name", "status", "status_reason", "group", "tags"]
    assert names.index("recipe") < names.index("metrics") < names.index("main_metric") < names.index("emissions")
    assert "directory" not in names
    assert "extra" not in names


def test_record_keeps_home_paths_and_tokens_out(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", "/home/maria")
    token = "hf_" + "k" * 34
    write_run(
        make_run(command=f"finetune run /home/maria/r.yaml hub.token={token}", recipe={"x": "/home/maria/d"}), tmp_path
    )
    text = (tmp_path / "run.json").read_text()
    assert "maria" not in text
    assert token not in text


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("[]", "not a run record"),
        ('{"run_id": 5}', "not a run record"),
        ('{"run_id": "a"', "not valid JSON"),
        ('{"run_id": "a", "schema_version": 2}', "schema_version 2, this finetune reads up to 1"),
        ('{"run_id": "a", "status": "fine"}', "status: found 'fine', allowed are running"),
        ('{"run_id": "a", "emissions": []}', "emissions: found list, expected an object"),
        ('{"run_id": "a", "timeline": [1]}', "timeline: found int, expected a list of objects"),
        ('{"run_id": "a", "tags": "x"}', "tags: found str, expected a list"),
        ("\xff", "not valid JSON"),
    ],
)
def test_record_says_what_is_wrong_with_a_file(tmp_path, content, complaint):
    (tmp_path / "run.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(FinetuneError) as error:
        read_run(tmp_path)
    assert complaint in error.value.message
    assert str(tmp_path / "run.json") in error.value.message
    assert "newer finetune" in error.value.hint or "bring back a copy" in error.value.hint


def test_record_reads_old_files_without_later_fields_and_null_sections():
    run = run_from_json({"run_id": "a", "status": "completed", "main_metric": None})
    assert run.name == "a"
    assert run.main_score() is None
    assert run.energy_kwh() is None


def test_record_scores_ignore_what_is_no_number():
    assert Score.from_json({"value": 0.5, "low": None, "high": "x", "n": 3}) == Score(0.5, None, None, 3)
    assert Score.from_json({"value": None}) is None
    assert Score.from_json({"value": True}) is None
    assert Score.from_json(0.5) is None


def test_record_a_running_run_whose_process_is_gone_reads_as_interrupted_with_its_journal():
    run = read_run(STORED / "banking77-20260902T090000Z-1e1e1e")
    assert (run.status, run.status_reason) == ("interrupted", "the process ended without writing its record")
    # The journal's last whole line: (7.6 + 20 W) · 100 s of training and 0.8 of that power for 2 s of loading.
    assert run.energy_kwh() == pytest.approx((27.6 * 100 + 27.6 * 0.8 * 2) / 3.6e6)
    assert run.emissions["phases"]["train"]["duration_s"] == 100
    assert run.emissions["segments"][0]["reason_ended"] == "died"


def test_record_of_a_killed_run_knows_its_neighbours_from_the_journal(tmp_path):
    stored = STORED / "banking77-20260902T090000Z-1e1e1e"
    (tmp_path / "run.json").write_bytes((stored / "run.json").read_bytes())
    first, second, tick, *_ = (stored / "energy.jsonl").read_text().splitlines()
    tick = json.dumps(json.loads(tick) | {"shared_with": ["other"]})
    (tmp_path / "energy.jsonl").write_text("".join(f"{line}\n" for line in (first, second, tick)))
    run = read_run(tmp_path)
    assert run.emissions["shared_with"] == ["other"]
    assert run.emissions["lives"][0]["duration_s"] == 102


def test_record_a_running_run_without_a_journal_keeps_what_it_had(tmp_path):
    write_run(replace(make_run(), status="running"), tmp_path)
    run = read_run(tmp_path)
    assert run.status == "interrupted"
    assert run.energy_kwh() == 0.003


def test_record_a_living_run_is_running(tmp_path):
    claim_run(tmp_path)
    write_run(replace(make_run(), status="running"), tmp_path)
    assert read_run(tmp_path).status == "running"


def test_record_directories_get_safe_distinct_names(tmp_path):
    made = {new_run_directory(tmp_path / "deep" / "runs", "Olá: a/b\\..").name for _ in range(20)}
    assert len(made) == 20
    name, stamp, short_id = made.pop().rsplit("-", 2)
    assert name == "Ola-a-b"
    assert len(stamp) == len("20260131T120000Z")
    assert len(short_id) == 6


@given(name=st.text(max_size=80))
def test_record_slug_is_always_one_safe_folder_name(name):
    safe = slug(name)
    assert 0 < len(safe) <= 64
    assert safe[0] not in ".-"
    assert all(letter.isascii() and (letter.isalnum() or letter in "._-") for letter in safe)


def test_record_new_directory_explains_a_file_in_the_way(tmp_path):
    (tmp_path / "runs").write_text("")
    with pytest.raises(FinetuneError, match="is a file"):
        new_run_directory(tmp_path / "runs", "a")


def test_record_list_skips_what_is_no_run_and_says_so():
    found, notes = list_runs(STORED)
    assert [run.run_id[-6:] for run in found] == ["a1b2c3", "d4e5f6", "0f0f0f", "1e1e1e", "77aa77", "88bb88"]
    assert len(notes) == 4
    for name, words_of_note in {
        "broken": "not valid JSON",
        "foreign": "no run_id",
        "future": "schema_version 2",
        "notes": "no run.json",
    }.items():
        assert any(name in note and words_of_note in note for note in notes)


def test_record_list_of_a_missing_folder_is_an_error(tmp_path):
    with pytest.raises(FinetuneError, match="no such folder"):
        list_runs(tmp_path / "none")


@pytest.mark.parametrize(
    "reference", ["quickstart-20260901T120000Z-a1b2c3", "quickstart-2026", "quickstart", "a1b2c3", str(QUICKSTART)]
)
def test_record_find_takes_an_id_a_beginning_a_short_id_a_name_or_a_folder(reference):
    assert find_run(reference, STORED) == QUICKSTART


def test_record_find_lists_the_matches_of_an_ambiguous_name():
    with pytest.raises(FinetuneError) as error:
        find_run("sst2", STORED)
    assert error.value.message.splitlines()[1:] == [
        "  sst2-20260903T100000Z-77aa77  completed",
        "  sst2-20260903T110000Z-88bb88  stopped",
    ]


@pytest.mark.parametrize(
    ("reference", "words_of_error"),
    [
        ("quikstart", "Did you mean quickstart?"),
        ("zzz", "finetune list"),
        ("nowhere/zzz", "no such run directory"),
        (" ", "nothing"),
    ],
)
def test_record_find_says_what_to_do_when_nothing_matches(reference, words_of_error):
    with pytest.raises(FinetuneError) as error:
        find_run(reference, STORED)
    assert words_of_error in f"{error.value.message} {error.value.hint}"


def test_record_a_folder_that_is_no_run_does_not_hide_a_run_of_that_name(tmp_path, monkeypatch):
    shutil.copytree(QUICKSTART, tmp_path / "runs" / QUICKSTART.name)
    (tmp_path / "quickstart").mkdir()
    monkeypatch.chdir(tmp_path)
    assert find_run("quickstart", tmp_path / "runs") == tmp_path / "runs" / QUICKSTART.name


def test_record_tells_runs_from_other_names(tmp_path):
    shutil.copytree(QUICKSTART, tmp_path / "renamed")
    for reference in ("quickstart-2026", "quickstart", "a1b2c3", "renamed"):
        assert names_a_run(reference, tmp_path)
    assert names_a_run("sst2", STORED)  # two of them
    assert not names_a_run("distilbert/distilbert-base-uncased", STORED)
    assert not names_a_run("quickstart", tmp_path / "none")


@pytest.mark.parametrize(
    ("changes", "message", "hint"),
    [
        ({"status": "running"}, "is still alive and has no model yet", "Wait for it to end."),
        ({"status": "failed"}, "is failed and has no model yet", "finetune run --resume {} goes on with it."),
        (
            {"status": "completed"},
            "is completed, but its model is gone",
            "finetune run {}/recipe.yaml trains it again.",
        ),
        (
            {"status": "completed", "prompted": {"scored": "zero_shot"}},
            "only asked its checkpoint, and trained no model",
            "finetune run {}/recipe.yaml trains it.",
        ),
    ],
)
def test_record_without_a_model_says_why_and_what_to_do(tmp_path, changes, message, hint):
    with pytest.raises(FinetuneError) as caught:
        model_folder(make_run(directory=tmp_path, **changes))
    assert message in caught.value.message
    assert caught.value.hint == hint.format(tmp_path)


def test_record_reading_and_comparing_imports_nothing_heavy():
    code = (
        "import sys; from pathlib import Path; from finetune.runs.requests import *; "
        f"print(len(requested_comparison(ComparisonRequest((), Path({str(STORED)!r}), grid='FRA'))[0].rows)); "
        "print(sorted({'torch', 'transformers', 'datasets', 'accelerate', 'codecarbon', 'evaluate', 'numpy', 'pandas', "
        "'scipy', 'pydantic'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["4", "[]"]


def test_record_stored_runs_have_every_field_of_the_contract():
    content = json.loads((QUICKSTART / "run.json").read_text())
    assert set(content) == set(run_to_json(make_run()))


def test_record_list_tells_a_run_that_is_starting_from_a_foreign_folder(tmp_path):
    directory = new_run_directory(tmp_path, "new")
    claim_run(directory)
    runs_found, notes = list_runs(tmp_path)
    assert runs_found == ()
    assert notes == (f"{directory}: a run that is starting",)


@pytest.fixture
def locked(tmp_path, monkeypatch):
    """Return a folder with a run and a folder of somebody else's, which answers every look with a refusal."""
    shutil.copytree(QUICKSTART, tmp_path / QUICKSTART.name)
    foreign = tmp_path / "foreign-20260901T120000Z-ffffff"
    foreign.mkdir()
    stat = Path.stat

    def refuse(path, **options):
        if foreign in path.parents:
            raise PermissionError(13, "Permission denied", str(path))
        return stat(path, **options)

    monkeypatch.setattr(Path, "stat", refuse)
    return tmp_path


def test_record_list_notes_a_folder_that_cannot_be_read(locked):
    found, notes = list_runs(locked)
    assert [run.name for run in found] == ["quickstart"]
    assert notes == (f"{locked / 'foreign-20260901T120000Z-ffffff'}: cannot be read: Permission denied; skipped",)


def test_record_find_is_not_stopped_by_a_folder_that_cannot_be_read(locked):
    assert find_run("quickstart", locked).name == QUICKSTART.name
    for reference in ("foreign-20260901T120000Z-ffffff", str(locked / "foreign-20260901T120000Z-ffffff")):
        with pytest.raises(FinetuneError, match="foreign-20260901T120000Z-ffffff: cannot be read: Permission denied"):
            find_run(reference, locked)


@pytest.mark.parametrize("reference", ["~nobody-of-this-name/x", "x" * 300, "a/" + "x" * 300])
def test_record_find_takes_a_name_that_no_folder_can_have_as_not_found(reference):
    with pytest.raises(FinetuneError, match="no such run"):
        find_run(reference, STORED)


def test_record_list_of_what_is_no_folder_says_what_it_is(tmp_path):
    (tmp_path / "runs").write_text("")
    with pytest.raises(FinetuneError, match="is a file, not a folder"):
        list_runs(tmp_path / "runs")
    with pytest.raises(FinetuneError, match="cannot be read: File name too long"):
        list_runs(tmp_path / ("x" * 300))


def test_record_list_of_a_folder_that_cannot_be_read_is_an_error(tmp_path, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(FinetuneError, match="cannot be read: Permission denied"):
        list_runs(tmp_path)
