"""Studies whose answer is known: scratch needs ten times the rows of full, and thirty times the energy."""

import json

import pytest

from finetune.study.findings import findings
from finetune.study.page import study_html, study_svg
from finetune.study.reach import ENERGY, ROWS
from finetune.study.report import to_json, written


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
    assert beyond.spread.beyond == 1
    text = written(shown, "text")
    assert "scratch needs" in text
    assert "scratch does not reach" in text
    assert "within 1,600 rows" in text
    assert "energy of pre-training is not in these numbers" in text
    assert results.searches[1].chosen == 1e-3
    json.loads(written(shown, "json"))
    assert written(shown, "md").count("|---|") == 3
    page, drawing = study_html(shown), study_svg(shown)
    assert "pre-training is not in these numbers" in page
    assert "pre-training is not in these numbers" in drawing
    assert drawing.count("<circle") == 2 * 6 + 2
    assert to_json(shown)["reach"][0]["outcome"] == "reached"
