"""Studies whose answer is known: scratch needs ten times the rows of full, and thirty times the energy."""

import json

import pytest

from finetune.study.page import study_html, study_svg
from finetune.study.reach import ENERGY, ROWS, reaches
from finetune.study.report import to_json, written


def test_study_finds_the_rows_and_the_energy_that_reaching_the_reference_takes(make_study):
    results = make_study()
    found = {(each.axis, each.target_rows): each for each in reaches(results)}
    rows, kwh = found[ROWS, 100], found[ENERGY, 100]
    assert rows.is_inside
    assert rows.value == pytest.approx(1000, rel=0.25)
    assert rows.spread.low < 1000 < rows.spread.high
    assert kwh.ratio.value == pytest.approx(30, rel=0.3)
    assert kwh.ratio.verdict == "more"
    beyond = found[ROWS, 1600]
    assert not beyond.is_inside
    assert beyond.spread.beyond == 1
    text = written(results, "text")
    assert "scratch needs" in text
    assert "scratch does not reach" in text
    assert "within 1,600 rows" in text
    assert "energy of pre-training is not in these numbers" in text
    assert results.searches[1].chosen == 1e-3
    json.loads(written(results, "json"))
    assert written(results, "md").count("|---|") == 3
    page, drawing = study_html(results), study_svg(results)
    assert "pre-training is not in these numbers" in page
    assert "pre-training is not in these numbers" in drawing
    assert drawing.count("<circle") == 2 * 6 + 2
    assert to_json(results)["reach"][0]["outcome"] == "reached"
