import csv
import io
import json
import os
import shutil
import signal
import subprocess
import sys

import pytest

from finetune.cli.app import main
from finetune.evaluation.predict_file import Answer
from finetune.using.answers import writer_of


@pytest.fixture
def runs(toy_runs):
    """Return a folder with one finished run, called toy."""
    return toy_runs


@pytest.fixture
def predict(runs, capsys, monkeypatch):
    """Return a function that predicts with the run, with lines on stdin or not: (exit code, stdout, stderr)."""

    def call(*arguments, stdin=""):
        capsys.readouterr()
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        code = main(["predict", "toy", *map(str, arguments), "--output-dir", str(runs)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def test_predict_writes_a_line_a_row_and_the_rate_on_stderr(predict, toy_data):
    code, out, err = predict(toy_data / "test.jsonl")
    assert code == 0
    lines = [json.loads(line) for line in out.splitlines()]
    assert [line["row"] for line in lines] == list(range(1, 17))
    for line in lines:
        assert list(line) == ["row", "text", "prediction", "probability", "probabilities"]
        assert line["probability"] == max(line["probabilities"].values()) == line["probabilities"][line["prediction"]]
    rate, energy = err.splitlines()[-2:]
    assert rate.startswith("16 rows in ")
    assert " rows/s on " in rate
    # 1 s of 3.6 kW would be 1 Wh; less than half a minute is too short for a figure per row
    assert energy.startswith("energy ")
    assert "CO2e, loading included; Wh per 1,000 rows: not measured" in energy


def test_predict_computes_in_the_precision_of_the_run(predict, runs, toy_data):
    [directory] = runs.iterdir()
    recorded = [json.loads(line) for line in (directory / "predictions-test.jsonl").read_text().splitlines()]
    _, out, _ = predict(toy_data / "test.jsonl")
    for answer, line in zip(map(json.loads, out.splitlines()), recorded, strict=True):
        assert answer["prediction"] == line["prediction"]
        assert answer["probabilities"] == pytest.approx(line["probabilities"], abs=1e-4)


def test_predict_with_a_run_of_another_kind_of_device_takes_what_suits_here(runs, tmp_path, monkeypatch, capsys):
    [directory] = runs.iterdir()
    shutil.copytree(directory, tmp_path / directory.name)
    record = json.loads((directory / "run.json").read_text())
    record["training"] |= {"device": "cuda" if record["training"]["device"] == "cpu" else "cpu"}
    record["training"]["mixed_precision"] = "fp16"
    (tmp_path / directory.name / "run.json").write_text(json.dumps(record))
    chosen = []
    monkeypatch.setattr("finetune.using.model.choose_precision", lambda *wanted: chosen.append(wanted) or "no")
    monkeypatch.setattr(sys, "stdin", io.StringIO("a lovely day\n"))
    assert main(["predict", "toy", "--output-dir", str(tmp_path)]) == 0
    assert [wanted[0] for wanted in chosen] == ["auto"]
    assert json.loads(capsys.readouterr().out)["row"] == 1


def test_predict_reads_lines_of_a_pipe_and_notes_those_without_text(predict):
    code, out, err = predict("--format", "csv", stdin='he said "a, b"\n\nnasty weather\n')
    assert code == 0
    rows = list(csv.reader(io.StringIO(out)))
    assert rows[0] == ["row", "text", "prediction", "probability"]
    assert rows[1][:2] == ["1", 'he said "a, b"']
    assert rows[2] == ["2", "", "", ""]
    assert rows[3][2] in ("good", "bad")
    assert 0.5 <= float(rows[3][3]) <= 1
    assert "note: 1 row without text, prediction null: 2" in err.splitlines()


def test_predict_reads_json_lines_of_a_pipe(predict):
    code, out, _ = predict("-", "--column", "text=body", stdin='{"body": "olá", "text": "no"}\n{"body": null}\n')
    assert code == 0
    first, second = (json.loads(line) for line in out.splitlines())
    assert first["text"] == "olá"
    assert second == {"row": 2, "text": None, "prediction": None}


def test_predict_says_on_stderr_how_columns_were_found_and_how_the_file_was_read(predict, tmp_path):
    (tmp_path / "rows.csv").write_bytes("sentence,n\ncaf\xe9,1\n".encode("latin-1"))
    code, out, err = predict(tmp_path / "rows.csv")
    assert (code, json.loads(out)["text"]) == (0, "caf\xe9")
    assert "note: Columns found by their names: text = 'sentence'." in err.splitlines()
    assert "note: rows.csv is not UTF-8" in err
    _, _, err = predict(stdin='{"utterance": "a day"}\n')
    assert "note: text is column 'utterance', the only one with texts." in err.splitlines()


def test_predict_output_is_whole_and_takes_its_format_from_the_ending(predict, toy_data, tmp_path):
    (tmp_path / "answers.csv").write_text("old")
    code, out, _ = predict(toy_data / "test.jsonl", "-o", tmp_path / "answers.csv")
    assert (code, out) == (0, "")
    rows = list(csv.reader((tmp_path / "answers.csv").open(newline="")))
    assert len(rows) == 17
    assert rows[0] == ["row", "text", "prediction", "probability"]
    assert [file.name for file in tmp_path.iterdir()] == ["answers.csv"]


def test_predict_leaves_the_old_output_when_a_row_is_bad(predict, tmp_path):
    (tmp_path / "answers.jsonl").write_text("old")
    code, _, err = predict("-o", tmp_path / "answers.jsonl", stdin='{"text": "a day"}\nnot json\n')
    assert code == 1
    assert "stdin:2: not JSON" in err
    assert (tmp_path / "answers.jsonl").read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["answers.jsonl"]


def test_predict_writes_through_to_a_device(predict):
    code, out, _ = predict("-o", os.devnull, stdin="a day\n")
    assert (code, out) == (0, "")
    assert not os.path.isfile(os.devnull)


def test_predict_never_writes_over_its_input(predict, tmp_path):
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"text": "a day"}\n')
    (tmp_path / "link.jsonl").symlink_to(rows)
    code, _, err = predict(rows, "-o", tmp_path / "link.jsonl")
    assert code == 1
    assert "is the input file itself" in err
    assert rows.read_text() == '{"text": "a day"}\n'


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["no-such.jsonl"], "no-such.jsonl: no such file"),
        (["empty"], "empty: holds no data file"),
        (["-o", "."], "is a folder"),
        (["-o", "x" * 300 + ".csv"], "is longer than the name of a file can be"),
        (["-o", "no/such/folder.csv"], "there is no folder no/such"),
        (["--format", "xml"], "--format xml: expected jsonl or csv"),
        (["--top-k", "2", "--format", "csv"], "a csv has one answer a row"),
        (["--column", "txt=body"], "the model has no input 'txt'"),
    ],
)
def test_predict_explains_what_is_wrong_before_it_computes(predict, monkeypatch, tmp_path, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    monkeypatch.setattr("finetune.using.model.load_model", lambda *a, **k: pytest.fail("too late"))
    code, out, err = predict(*arguments)
    assert (code, out) == (1, "")
    assert message in err


@pytest.mark.parametrize(
    ("stdin", "message"),
    [('[{"text": "a day"}]\n', "stdin:1: a JSON array"), ("a d\0ay\n", "stdin:1: holds a NUL byte")],
)
def test_predict_explains_a_pipe_that_is_no_text(predict, stdin, message):
    code, out, err = predict(stdin=stdin)
    assert (code, out) == (1, "")
    assert message in err


def test_predict_writes_to_the_end_of_a_link(predict, tmp_path):
    (tmp_path / "link.jsonl").symlink_to("answers.jsonl")
    (tmp_path / "loop.jsonl").symlink_to("loop.jsonl")
    assert predict("-o", tmp_path / "link.jsonl", stdin="a day\n")[0] == 0
    assert json.loads((tmp_path / "answers.jsonl").read_text())["row"] == 1
    code, _, err = predict("-o", tmp_path / "loop.jsonl", stdin="a day\n")
    assert (code, "is a link that leads back to itself" in err) == (1, True)


def test_predict_with_an_unfinished_run_says_how_to_go_on(runs, tmp_path, capsys):
    [directory] = runs.iterdir()
    record = json.loads((directory / "run.json").read_text())
    (tmp_path / directory.name).mkdir()
    (tmp_path / directory.name / "run.json").write_text(json.dumps({**record, "status": "interrupted"}))
    capsys.readouterr()
    assert main(["predict", "toy", "--output-dir", str(tmp_path)]) == 1
    err = capsys.readouterr().err
    assert "is interrupted and has no model yet" in err
    assert f"hint: finetune run --resume {tmp_path / directory.name} goes on with it" in err


def test_predict_writes_pairs_numbers_and_several_labels():
    from finetune.evaluation.predict_file import Answer
    from finetune.using.answers import csv_cells, json_line

    pair = Answer(1, {"text": "a", "text_pair": "b"}, {"prediction": 0.25})
    roles = ("text", "text_pair")
    assert csv_cells(pair, roles) == [1, "a", "b", 0.25, None]
    assert json_line(pair, roles) == {"row": 1, "text": "a", "text_pair": "b", "prediction": 0.25}
    several = {"prediction": ["x", "z"], "probabilities": {"x": 0.9, "y": 0.1, "z": 0.6}}
    assert csv_cells(Answer(2, {"text": "a"}, several), ("text",)) == [2, "a", "x|z", "0.9|0.6"]
    none = {"prediction": [], "probabilities": {"x": 0.1}}
    assert csv_cells(Answer(3, {"text": "a"}, none), ("text",)) == [3, "a", "", ""]


def test_predict_gives_the_likeliest_labels_first(predict):
    code, out, _ = predict("--top-k", "1", stdin="a lovely day\n")
    assert code == 0
    [line] = map(json.loads, out.splitlines())
    assert line["probabilities"] == {line["prediction"]: line["probability"]}
    _, out, _ = predict("--top-k", "5", stdin="a lovely day\nnasty weather\n")
    for line in map(json.loads, out.splitlines()):
        assert list(line["probabilities"].values()) == sorted(line["probabilities"].values(), reverse=True)
        assert len(line["probabilities"]) == 2


def test_predict_answers_the_files_of_a_folder_beside_them(predict, tmp_path):
    folder, elsewhere = tmp_path / "rows", tmp_path / "elsewhere"
    folder.mkdir()
    elsewhere.mkdir()
    (folder / "a.txt").write_text("a lovely day\nnasty weather\n")
    (folder / "b.csv").write_text("text,n\na day,1\n")
    (folder / "notes.pdf").write_bytes(b"%PDF")
    code, out, err = predict(folder)
    assert (code, out) == (0, "")
    assert "note: left out, no data by their names: notes.pdf" in err
    assert "3 rows in " in err
    answers = {"a.txt.predictions.jsonl": 2, "b.csv.predictions.jsonl": 1}
    names = {"a.txt", "b.csv", "notes.pdf"}
    assert {path.name for path in folder.iterdir()} == {*names, *answers}
    for name, rows in answers.items():
        assert len((folder / name).read_text().splitlines()) == rows
    (folder / "c.jsonl").write_text('{"text": \n')
    code, _, err = predict(folder, "-o", elsewhere, "--format", "csv")
    assert code == 1
    assert "1 file of 3 could not be answered:" in err
    assert "c.jsonl:1" in err
    assert {path.name for path in elsewhere.iterdir()} == {"a.txt.predictions.csv", "b.csv.predictions.csv"}
    assert "go into a folder" in predict(folder, "-o", tmp_path / "answers.jsonl")[2]


def test_predict_computes_no_more_than_is_read(predict, monkeypatch):
    """The reader goes away after the first batch: the others are never computed."""
    from finetune.evaluation.predict_file import answer_batch

    batches = []
    monkeypatch.setattr("finetune.using.predict.reader_is_gone", lambda stream: bool(batches))
    monkeypatch.setattr(
        "finetune.using.predict.answer_batch", lambda *asked: batches.append(asked) or answer_batch(*asked)
    )
    code, _, err = predict(stdin="a lovely day\n" * 1000)
    assert (code, err, len(batches)) == (0, "", 1)


def test_an_empty_pipe_is_told_apart_from_an_answer(predict):
    code, out, err = predict()
    assert (code, out) == (0, "")
    assert err == "note: nothing is answered: the input has no rows\n"


def test_answers_are_short_at_a_terminal_and_whole_in_a_pipe(monkeypatch):
    answer = Answer(1, {"text": "hé"}, {"prediction": "a", "probabilities": {"a": 0.1264851733666511, "b": 1.5e-09}})
    for watched, number in ((True, "0.1265"), (False, "0.1264851733666511")):
        output = io.StringIO()
        monkeypatch.setattr(output, "isatty", lambda watched=watched: watched)
        writer_of("jsonl", output, ["text"])([answer])
        assert output.getvalue() == (
            '{"row": 1, "text": "hé", "prediction": "a", "probabilities": {"a": ' + number + ', "b": 1.5e-09}}\n'
        )


def test_energy_is_told_per_row_once_answering_took_half_a_minute(runs):
    from finetune.runs.record import read_run
    from finetune.using.energy import spent_words

    [directory] = runs.iterdir()
    run = read_run(directory)
    phases = {"evaluate": {"energy_kwh": 0.001, "duration_s": 31.0}, "load": {"energy_kwh": 1.0, "duration_s": 9.0}}
    spent = {"energy_kwh": 1.001, "emissions_g": 98.0, "phases": phases}
    assert spent_words(spent, 500, run) == "energy 1.00 kWh, 98.0 g CO2e, loading included; 2.00 Wh per 1,000 rows"
    phases["evaluate"]["duration_s"] = 12.0
    assert "not measured, which takes 30 s of answering; the run's own evaluation took" in spent_words(spent, 500, run)
    assert spent_words({"energy_kwh": None}, 500, run) == "energy not measured"
    gone = {"cpu": {"method": None, "detail": "no reading"}, "gpu": {"method": "absent", "detail": "no GPU was found"}}
    assert spent_words({"energy_kwh": None, "components": gone}, 500, run) == "energy not measured: no reading"


def start(runs):
    command = [sys.executable, "-m", "finetune", "predict", "toy", "--output-dir", str(runs)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_predict_ends_quietly_when_its_reader_has_seen_enough(runs):
    process = start(runs)
    process.stdout.close()
    _, err = process.communicate("a lovely day\n" * 3000, timeout=120)
    assert (process.returncode, err) == (0, "")


@pytest.mark.slow
def test_predict_answers_before_its_input_ends_and_ctrl_c_stops_it_with_130(runs):
    process = start(runs)
    for row in (1, 2):
        process.stdin.write("a lovely day\n")
        process.stdin.flush()
        assert json.loads(process.stdout.readline())["row"] == row
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "Traceback" not in err
