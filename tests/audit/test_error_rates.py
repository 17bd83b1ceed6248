import numpy
import pytest

from finetune.audit import significance
from finetune.audit.cases import read_cases
from finetune.audit.error_rates import FALSE_ALARM, MISSED, Case, judge_column, judge_templates
from finetune.errors import FinetuneError

GROUPS = ("p", "q", "r", "s")


def templates(count=40, lacking=0):
    cases = [Case(group, number % 2 == 0, str(number)) for number in range(count) for group in GROUPS]
    return cases + [Case("p", True, f"lacking-{number}") for number in range(lacking)] + [Case("", False, "none")]


def wrong_with(cases, planted="", seed=0, base=0.2):
    draw = numpy.random.default_rng(seed)
    hard = {case.template: draw.random() < base for case in cases}
    return [bool(hard[case.template] ^ (draw.random() < 0.1)) or case.group == planted for case in cases]


def test_error_rates_of_a_planted_group_alone_are_flagged():
    cases = templates(60, lacking=3)
    result = judge_templates(cases, wrong_with(cases, planted="q"), 0.95)
    flagged = {(finding.group, finding.measure) for finding in result.findings if finding.to_json()["flagged"]}
    assert flagged >= {("q", MISSED), ("q", FALSE_ALARM)}
    assert {group for group, _ in flagged} == {"q"}
    planted = next(finding for finding in result.findings if (finding.group, finding.measure) == ("q", MISSED))
    assert (planted.detail["rate"], planted.n, planted.detail["templates"]) == (100, 30, 30)
    assert planted.low > 0
    assert planted.value == pytest.approx(100 - planted.detail["rate_of_others"])
    assert result.left_out == {"names no group": 1, "its template lacks a group, or has no answer": 3}


def test_error_rates_of_hand_made_cells():
    cases = [Case(group, True, template) for template in "abcdefgh" for group in ("p", "q")]
    wrong = [case.group == "p" and case.template in "abcd" for case in cases]
    own, others = judge_templates(cases, wrong, 0.95).findings
    assert (own.value, others.value) == (50, -50)
    assert own.detail["others"] == ["q"]
    # Of 8 templates 4 have one error: |sum| is as large only when all four fall to one side, 2 of 16 ways.
    assert own.p == pytest.approx(2 / 16, abs=0.01)
    assert 0 < own.low < own.high <= 100


def test_error_rates_take_a_template_with_a_missing_answer_out():
    cases = [Case(group, True, template) for template in "abcdefgh" for group in ("p", "q")]
    wrong = [None if (case.group, case.template) == ("p", "a") else False for case in cases]
    assert [finding.n for finding in judge_templates(cases, wrong, 0.95).findings] == [7, 7]


@pytest.mark.slow
def test_error_rates_flag_one_in_twenty_at_most_when_labels_are_permuted(monkeypatch):
    monkeypatch.setattr(significance, "DRAWS", 999)
    cases, draw, flagged = templates(40), numpy.random.default_rng(3), 0
    for seed in range(100):
        wrong = numpy.array(wrong_with(cases, seed=seed))[:-1].reshape(-1, len(GROUPS))
        permuted = [*draw.permuted(wrong, axis=1).ravel().tolist(), False]
        result = judge_templates(cases, permuted, 0.95)
        flagged += any(finding.to_json()["flagged"] for finding in result.findings)
    assert flagged <= 5


def test_error_rates_by_column():
    cases = [Case("north" if number % 2 else "south", None) for number in range(80)] + [Case("", None)]
    wrong = [number % 2 == 1 and number < 60 for number in range(80)] + [None]
    result = judge_column(cases, wrong, 0.95)
    north, south = result.findings
    assert (north.detail["rate"], south.detail["rate"], north.value) == (75, 0, 75)
    assert north.low > 50
    assert north.to_json()["flagged"]
    assert result.left_out["names no group"] == 1
    assert judge_column(cases[:1], [True], 0.95).reason == "there are no two groups to compare"


def test_error_rates_leave_a_rare_group_out_and_name_it():
    cases = [*templates(60), Case("rare", True, "0"), Case("rare", False, "1")]
    wrong = wrong_with(cases, planted="q")
    result = judge_templates(cases, wrong, 0.95)
    assert {(one.group, one.detail["templates"]) for one in result.findings} == {(group, 30) for group in GROUPS}
    assert result.left_out["of groups with too few templates (rare)"] == 2
    asked_for = judge_templates(cases, wrong, 0.95, least_share=0.0)
    assert {(one.group, one.detail["templates"]) for one in asked_for.findings} == {(g, 1) for g in (*GROUPS, "rare")}


def test_error_rates_do_not_test_a_group_of_a_handful_of_rows():
    cases = [Case("north" if number % 2 else "south", None) for number in range(80)] + [Case("few", None)] * 3
    wrong = [False] * 80 + [True] * 3
    found = {one.group: one for one in judge_column(cases, wrong, 0.95).findings}
    assert (found["few"].value, found["few"].p, found["few"].to_json()["flagged"]) == (100, None, None)
    assert found["few"].detail["others"] == ["north", "south"]
    assert found["north"].detail["others"] == ["south"]
    assert (found["north"].n, found["north"].to_json()["flagged"]) == (40, False)


def test_error_rates_without_a_shared_template_say_so():
    cases = [Case("p", True, "a"), Case("q", True, "b")]
    assert judge_templates(cases, [True, True], 0.95).reason == "no template has a case of every group"


def test_error_rates_read_cases_and_refuse_what_is_unclear(tmp_path):
    file = tmp_path / "cases.csv"
    file.write_text("text,label,target,template_id\none,hate,g,1\ntwo,fine,h,1\nthree,,h,2\n")
    cases = read_cases(file, {}, "hate")
    assert [(case.group, case.positive, case.template) for case in cases.cases] == [("g", True, "1"), ("h", False, "1")]
    assert cases.has_templates
    assert cases.left_out == {"has no label": 1}
    assert read_cases(file, {"group": "template_id"}, "hate").cases[0].group == "1"
    for columns, value, said in (
        ({}, "hateful", "no label is 'hateful'; column 'label' says 'fine' and 'hate'"),
        ({"grup": "target"}, "hate", "columns.grup: cases have no such role"),
        ({"group": "targets"}, "hate", "no column 'targets'"),
    ):
        with pytest.raises(FinetuneError) as error:
            read_cases(file, columns, value)
        assert said in error.value.message
