"""Studies whose answer is known: scratch needs ten times the rows of full, and thirty times the energy."""

import json
import math
import re
import shlex
from dataclasses import replace

import pytest

from finetune.cli.app import main
from finetune.runs.record import write_run
from finetune.study.curves import Interval
from finetune.study.findings import findings
from finetune.study.page import study_html, study_svg
from finetune.study.reach import ENERGY, ROWS, Ratio, Reach
from finetune.study.report import to_json, written
from finetune.study.saved import saved, saved_line, saved_words
from tests.study.conftest import STRATEGIES


def test_study_finds_the_rows_and_the_energy_that_reaching_the_reference_takes(make_study):
    shown = findings(make_study())
    results = shown.results
    found = {(each.axis, each.target_rows): each for each in shown.reaches}
    rows, kwh = found[ROWS, 100], found[ENERGY, 100]
    assert rows.is_inside
    assert rows.value == pytest.approx(1000, rel=0.25)
    assert rows.spread.low < 1000 < rows.spread.high
    assert kwh.ratio.value == pytest.approx(30, rel=0.3)
    assert kwh.ratio.verdict == "more"
    beyond = found[ROWS, 1600]
    assert not beyond.is_inside
    assert beyond.spread.beyond > 0.99
    text = written(shown, "text")
    assert "scratch needs" in text
    assert "times as many; energy" in text
    assert "scratch does not reach" in text
    assert "within 1,600 rows" in text
    assert "energy of pre-training is not in these numbers" in text
    assert results.searches[1].chosen == 1e-3
    assert shown.sizes == ()  # one checkpoint, whatever it is made to learn
    json.loads(written(shown, "json"))
    assert written(shown, "md").count("|---|") == 3
    page, drawing = study_html(shown), study_svg(shown)
    assert "pre-training is not in these numbers" in page
    assert "pre-training is not in these numbers" in drawing
    assert drawing.count("<circle") == 2 * 6 + 2
    assert to_json(shown)["reach"][0]["outcome"] == "reached"


def test_study_says_what_is_saved_in_rows_energy_and_grams(make_study):
    shown = findings(make_study(rows=[100, 400, 3200]))
    reach = {(each["axis"], each["target_rows"]): each["saved"] for each in to_json(shown)["reach"]}
    rows, kwh = reach[ROWS, 100], reach[ENERGY, 100]
    assert rows["value"] == pytest.approx(900, rel=0.25)
    assert rows["low"] < rows["value"] < rows["high"]
    assert (rows["bound"], rows["emissions_g"]) == (None, None)
    assert kwh["value"] == pytest.approx(0.0029, rel=0.3)  # 30 times 0.1 Wh, less 0.1 Wh
    assert kwh["emissions_g"] == pytest.approx(100 * kwh["value"])
    assert reach[ROWS, 3200] is None  # it had as many rows and does not reach it: nothing can be said
    beyond = reach[ENERGY, 3200]
    assert (beyond["bound"], beyond["high"]) == ("at least", None)
    assert beyond["value"] == pytest.approx(3.2e-6 * 1000 * 2, rel=0.1)
    for text in (written(shown, "text"), written(shown, "md"), study_html(shown)):
        assert "; full saves" in text
        assert "at least 6." in text
        assert "g CO2e" in text


def test_study_saves_nothing_where_the_other_strategy_takes_less_or_grids_differ(make_study, play):
    play.score = lambda recipe, rows: 0.9 if recipe.model.init == "scratch" else 0.8
    play.kwh = lambda recipe, rows: 1e-6 * rows

    def charged(run):
        intensity = {"g_per_kwh": 50.0, "scope": "life-cycle"}
        write_run(replace(run, emissions={**run.emissions, "carbon_intensity": intensity}), run.directory)
        return 0, None

    play.endings["pay-full-400-s2"] = charged
    shown = findings(make_study(rows=[100, 400]))
    reach = {(each["axis"], each["target_rows"]): each["saved"] for each in to_json(shown)["reach"]}
    assert (reach[ROWS, 400]["value"], reach[ROWS, 400]["bound"]) == (-300, "at most")
    assert reach[ENERGY, 400]["emissions_g"] is None
    text = written(shown, "text")
    assert "at most −300 rows" in text
    assert "; full saves" not in text


def test_saved_is_told_only_where_the_range_of_the_ratio_leaves_out_one():
    def needs(value, low, high):
        spread = Interval(100 * low, 100 * high, 0.0, 0.0)
        return saved(
            Reach("s", ROWS, 100, 0.8, 100.0, 40.0, 1600.0, value, spread, Ratio(value / 100, low, high)), None
        )

    assert saved_words(needs(math.inf, 0.9, math.inf)) == "not known"
    surely, partly = needs(math.inf, math.inf, math.inf), needs(math.inf, 2.0, math.inf)
    assert saved_words(surely) == "at least 1,500 rows"
    assert saved_words(partly) == "at least 100 rows"  # in some draws 200 are enough
    assert (partly.low, partly.high) == (100.0, None)
    assert saved_line("full", surely, None) == "full saves at least 1,500 rows"
    assert saved_words(needs(0.0, 0.0, 0.4)) == "at most −60 rows"
    assert saved_words(needs(0.0, 0.0, 0.9)) == "at most −10 rows"
    assert saved_words(needs(0.0, 0.0, 1.2)) == "not known"
    assert saved_line("full", needs(150.0, 0.9, 1.8), needs(0.0, 0.0, 0.4)) is None
    assert saved_words(needs(150.0, 0.9, 1.8)) == "50 rows (undecided)"


def test_study_says_where_strategies_wait_with_unequal_patience(make_study):
    assert not any("unequal patience" in note for note in make_study(seeds=[1]).notes)
    patient = {**STRATEGIES, "scratch": {**STRATEGIES["scratch"], "training.early_stopping_patience": 10}}
    shown = findings(make_study(seeds=[1], strategies=patient, name="patient"))
    told = (
        "unequal patience: early stopping waits for 2 evaluations (full) and 10 evaluations (scratch), and that wait "
        "is in their energy: after the best score came 50% of full's and 50% of scratch's"
    )
    assert told in shown.results.notes
    assert told in written(shown, "md")
    assert told.partition(": after")[0] in study_html(shown)


def test_study_says_where_more_rows_score_worse(make_study, play):
    assert not any("is worse than" in note for note in make_study().notes)
    play.score = lambda recipe, rows: 0.3 if recipe.model.init == "scratch" and rows == 1600 else 0.6
    [told] = [note for note in make_study(name="fell").notes if "is worse than" in note]
    assert re.match(r"scratch: 0\.(29|30)\d on 1,600 rows is worse than 0\.(59|60)\d on \d00:", told)
    assert "search_rows" in told
    play.metric = "mse"  # of which less is better
    assert not any("is worse than" in note for note in make_study(name="rose").notes)
    play.score = lambda recipe, rows: 0.9 if recipe.model.init == "scratch" and rows == 1600 else 0.6
    [told] = [note for note in make_study(name="turned").notes if "is worse than" in note]
    assert told.startswith("scratch: 0.900 on 1,600 rows is worse than 0.600")


def test_study_later_seeds_on_another_machine_widen_the_range_of_the_meters(make_study, play):
    same = {
        each.target_rows: each.ratio for each in findings(make_study(rows=[100, 3200])).reaches if each.axis == ENERGY
    }
    play.machine = lambda recipe: "boot-2" if recipe.training.seed == 3 else "boot-1"
    other = {
        each.target_rows: each.ratio
        for each in findings(make_study(rows=[100, 3200], name="moved")).reaches
        if each.axis == ENERGY
    }
    # Readings of one GPU err alike; of two each errs by 10 % on its own.
    assert other[100].high / other[100].value > 1.15 * same[100].high / same[100].value
    assert other[100].low / other[100].value < same[100].low / same[100].value / 1.15


def test_study_of_a_smaller_model_says_what_is_retained_of_the_score(make_study, play):
    play.score = lambda recipe, rows: 0.72 if recipe.model.name_or_path == "owner/small" else 0.8

    def parameters(recipe):
        return 600 if recipe.model.name_or_path == "owner/small" else 1000

    play.parameters = parameters
    models = {"large": {}, "small": {"model.name_or_path": "owner/small"}}
    shown = findings(make_study(strategies=models, rows=None))
    large, small = shown.sizes
    assert (large.parameters, small.parameters) == (1000, 600)
    assert large.retained is None
    assert small.retained == pytest.approx(0.9, abs=0.03)
    assert small.retained_interval.low < 0.9 < small.retained_interval.high < 1
    assert small.predictions_per_second == 200
    assert small.weights_bytes is None  # no weights are there, and none are made up
    assert shown.reaches == ()
    assert "Wh per 1,000 predictions" in study_svg(shown)
    assert "retained" in written(shown, "text")


def test_study_never_calls_energy_less_where_only_a_bound_is_known(make_study, play):
    play.score = lambda recipe, rows: 0.9 if recipe.model.init == "scratch" else 0.8
    found = {(each.axis, each.target_rows): each for each in findings(make_study(rows=[100, 400])).reaches}
    first = found[ENERGY, 100]  # scratch has it on its smallest amount, for three times the energy
    assert first.value == 0
    assert first.ratio.high > 2.5
    assert first.ratio.verdict == "undecided"


def test_study_leaves_out_energies_that_cannot_be_compared_and_says_so(make_study, play):
    def shared(run):
        write_run(replace(run, emissions={**run.emissions, "shared_with": ["other"]}), run.directory)
        return 0, None

    play.endings["pay-scratch-400-s1"] = shared
    shown = findings(make_study(seeds=[1, 2]))
    cell = next(cell for cell in shown.results.cells if (cell.strategy, cell.rows) == ("scratch", 400))
    assert cell.kwh is None
    assert {each.axis for each in shown.reaches} == {ROWS}
    text = written(shown, "text")
    assert "not compared" in text
    assert "shared the machine" in text
    assert "fewer than three seeds" in text
    study_svg(shown)


def test_study_scores_of_which_less_is_better_are_turned_around(make_study, play):
    play.metric = "mse"
    play.score = lambda recipe, rows: 1 - (0.1 if recipe.model.init == "scratch" else 0.2) * (rows / 100) ** 0.5
    results = make_study(rows=[100, 400], seeds=[1])
    found = {each.target_rows: each for each in findings(results).reaches if each.axis == ROWS}
    assert not results.greater_is_better
    assert found[100].is_inside
    assert found[400].value == float("inf")
    assert results.searches[1].chosen == 3e-4  # of equals the lower one


def test_study_names_a_next_command_that_works(make_study, capsys):
    text = written(findings(make_study(rows=[100], seeds=[1, 2])), "text")
    command = shlex.split(text.rpartition("next     finetune ")[2])
    assert command[:2] == ["compare", "pay"]
    assert main([*command, "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert sorted(group["name"] for group in content["groups"]) == ["pay-full-100", "pay-scratch-100"]
    assert len(content["runs"]) == 4
    assert main([*command[:-1], "search", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["runs"]) == 4


def test_study_page_says_where_the_energy_is_a_lower_bound(make_study, play):
    def unread(run):
        write_run(replace(run, emissions={**run.emissions, "complete": False}), run.directory)
        return 0, None

    assert ">≥ " not in study_html(findings(make_study(rows=[100], seeds=[1])))
    play.endings["pay-scratch-100-s2"] = unread
    page = study_html(findings(make_study(rows=[100], seeds=[1, 2])))
    for card in ("Energy of the study", "CO₂e as run"):
        assert f"<dt>{card}</dt><dd>≥ " in page


def test_study_that_was_not_begun_has_an_empty_table(study_file):
    from finetune.study.definition import read_study
    from finetune.study.plan import read_state
    from finetune.study.results import make_results

    study = read_study(study_file())
    shown = findings(make_results(study, read_state(study, ()), {}))
    assert shown.results.missing == 18
    assert "18 runs missing" in written(shown, "text")
    assert "18 runs missing" in study_html(shown)
