import unicodedata
from dataclasses import replace
from pathlib import Path

from finetune.runs.compare import compare_runs
from finetune.runs.compare_report import comparison_csv, comparison_markdown, comparison_text
from finetune.runs.record import list_runs, read_run
from finetune.runs.report import closing_panel, list_table
from finetune.runs.show import show_text
from tests.runs.builders import QUICKSTART, STORED, make_emissions, make_run


def test_report_closing_panel_has_scores_before_and_after_energy_time_and_what_to_type(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    directory = Path("runs") / QUICKSTART.name
    (directory / "model").mkdir(parents=True)
    panel = closing_panel(replace(read_run(QUICKSTART), directory=directory))
    assert panel.splitlines() == [
        "quickstart: completed",
        "─────────────────────",
        "score   accuracy on test: 0.950 [0.915–0.971] (240 rows)",
        "before  majority class 0.167 [0.125–0.219], untrained model 0.163 [0.121–0.214]",
        "energy  0.000309 kWh = 0.309 Wh, band 0.0928–0.704 Wh (cpu modelled, ram assumed)",
        "CO2e    0.0304 g (98.3 g/kWh, BRA, from the recipe)",
        "time    41 s",
        "model   runs/quickstart-20260901T120000Z-a1b2c3/model",
        "next    finetune predict a1b2c3 FILE",
        "        finetune show a1b2c3",
        "        finetune compare",
    ]


def test_report_closing_panel_of_a_run_without_any_reading_never_says_zero():
    panel = closing_panel(make_run(emissions={"energy_kwh": None, "emissions_g": None, "duration_s": 5.0}))
    assert "energy  not measured" in panel
    assert "CO2e    not measured" in panel


def test_report_closing_panel_says_how_the_place_is_known_and_what_is_a_lower_bound():
    panel = closing_panel(read_run(STORED / "sst2-20260903T100000Z-77aa77"))
    assert "energy  at least 0.00271 kWh" in panel
    assert "gpu not measured" in panel
    assert "world average" in panel
    assert "--country names it" in panel


def test_report_closing_panel_of_an_interrupted_run_tells_how_to_go_on():
    panel = closing_panel(read_run(STORED / "banking77-20260902T090000Z-1e1e1e"))
    assert "next    finetune run --resume" in panel


def test_report_list_marks_runs_that_shared_the_machine():
    alone, shared = make_run("a"), make_run("b", emissions=make_emissions({"gpu": 4.0}, shared_with=["a"]))
    table = list_table([alone, shared], 140).splitlines()
    assert "kWh *" not in table[2]
    assert "4.00 kWh *" in table[3]
    assert table[-1] == "*  another run used the machine at the same time: the energy is that of both"
    assert "*" not in list_table([alone], 140)


def test_report_show_names_the_neighbours():
    text = show_text(make_run(emissions=make_emissions({"gpu": 4.0}, shared_with=["a", "b"])), 140)
    assert "note: a and b used the machine at the same time" in text
    many = [f"run-{number}" for number in range(12)]
    text = show_text(make_run(emissions=make_emissions({"gpu": 4.0}, shared_with=many)), 140)
    assert "note: run-0, run-1, run-2 and 9 more used the machine at the same time" in text


def test_report_show_tells_the_idle_baseline_apart_from_the_total():
    idle = {"duration_s": 30.0, "watts": {"cpu": None, "gpu": 70.0}, "above_idle_kwh": {"cpu": None, "gpu": 0.25}}
    text = show_text(make_run(emissions=make_emissions({"gpu": 4.0}, idle=idle)), 140)
    assert "at rest for 30 s, not part of the total: gpu 70.0 W, above it 250 Wh" in text
    unknown = idle | {"above_idle_kwh": {"gpu": None}}
    text = show_text(make_run(emissions=make_emissions({"gpu": 4.0}, idle=unknown)), 140)
    assert "gpu 70.0 W, above it not known for every part of the run" in text
    modelled = idle | {"watts": {"cpu": None, "gpu": None}}
    text = show_text(make_run(emissions=make_emissions({"cpu": 4.0}, idle=modelled)), 140)
    assert "no component has a sensor" in text
    assert "at rest" not in show_text(make_run(emissions=make_emissions({"gpu": 4.0}, idle=None)), 140)


def test_report_every_text_fits_its_width_and_is_the_same_twice():
    runs = list_runs(STORED)[0]
    comparison = compare_runs(runs)
    for width in (100, 140, 200):
        texts = [comparison_text(comparison, width), list_table(runs, width), show_text(runs[0], width, timeline=True)]
        assert texts == [
            comparison_text(comparison, width),
            list_table(runs, width),
            show_text(runs[0], width, timeline=True),
        ]
        assert max(len(line) for text in texts for line in text.splitlines()) <= width + 10
        assert not any(line != line.rstrip() for text in texts for line in text.splitlines())


def test_report_differences_that_do_not_fit_the_table_stand_below_it():
    long = [
        make_run(name, recipe={"model": {"name_or_path": name * 9}, "training": {"seed": seed}})
        for name, seed in (("a", 1), ("b", 2))
    ]
    narrow, wide = (comparison_text(compare_runs(long), width) for width in (75, 160))
    assert "model.name_or_path: aaaaaaaaa · bbbbbbbbb" in narrow
    assert "Also different" not in wide


def test_report_markdown_and_csv_have_a_line_a_run():
    comparison = compare_runs(list_runs(STORED)[0])
    table = [line for line in comparison_markdown(comparison).splitlines() if line.startswith("|")]
    assert len(table) == 2 + len(comparison.rows)
    assert len({line.count("|") - line.count("\\|") for line in table}) == 1
    lines = comparison_csv(comparison).splitlines()
    assert len(lines) == 1 + len(comparison.rows)
    assert lines[0].startswith("run_id,name,status")


def test_report_shows_records_that_say_almost_nothing():
    bare = make_run(emissions={}, metrics={}, main_metric={}, dataset={}, hardware={}, timeline=({},))
    assert "the run was not evaluated" in show_text(bare, 100, timeline=True)
    assert "not measured" in comparison_text(compare_runs([bare]), 100)
    assert "a" in list_table([bare], 100)


def test_report_no_name_steers_the_terminal_or_breaks_a_line():
    name, key = "evil\x1b[2J\nname", "model\x1b]0;x\x07"
    runs = [
        make_run(f"{run_id}\x1b[1A", accuracy, name=f"{name} {run_id}", recipe={key: run_id}, status_reason="a\x1b[0m")
        for run_id, accuracy in (("a", 0.9), ("b", 0.5))
    ]
    comparison = compare_runs(runs)
    texts = [
        list_table(runs, 100),
        comparison_text(comparison, 100),
        comparison_markdown(comparison),
        comparison_csv(comparison),
        show_text(runs[0], 100, timeline=True),
        closing_panel(runs[0]),
    ]
    for text in texts:
        assert not any(letter != "\n" and unicodedata.category(letter) == "Cc" for letter in text)
    for text in (*texts[:3], *texts[4:]):
        assert "evil[2J name" in text.replace("\\", "")


def test_report_show_gives_the_lengths_of_the_texts_where_the_record_has_them():
    dataset = {
        "path": "data.csv",
        "length_tokens": {"p50": 14, "p95": 31, "max": 1056},
        "max_length": 128,
        "truncated_fraction": 0.0123,
    }
    (line,) = [line for line in show_text(make_run(dataset=dataset), 100).splitlines() if line.startswith("lengths")]
    assert line == (
        "lengths   median 14 tokens, 95 % up to 31, longest 1,056, limit 128, 1.2 % of the training rows truncated"
    )
    assert "lengths" not in show_text(make_run(dataset={"path": "data.csv", "truncated_fraction": 0.0}), 100)


def test_report_timeline_shows_a_dash_for_what_is_malformed():
    run = make_run(
        timeline=(
            {"step": 10, "epoch": 1.0, "elapsed_s": 5.0, "metrics": {"accuracy": 0.5}},
            {"step": "x", "epoch": None, "metrics": 5},
        )
    )
    rows = show_text(run, 100, timeline=True).splitlines()[-2:]
    assert rows[0].split()[:2] == ["10", "1"]
    assert rows[1].split()[:2] == ["–", "–"]
    assert rows[1].endswith("–")
