import json

import pytest

from tests.cli.golden import assert_golden


@pytest.mark.parametrize(
    ("name", "arguments", "code"),
    [
        ("check_passed.txt", ["quickstart", "accuracy>=0.9", "validation.f1_macro > 0.9", "emissions_g<=50"], 0),
        ("check_failed.txt", ["quickstart", "accuracy>=0.99", "energy_kwh<1"], 3),
        ("check_unread_gpu.txt", ["77aa77", "emissions_g<=50", "wh_per_1000_predictions<1"], 3),
        ("check_interrupted.txt", ["1e1e1e", "accuracy>=0.9", "emissions_g<=50"], 3),
        ("check_unknown_name.txt", ["quickstart", "acuracy>=0.9"], 1),
    ],
)
def test_check_golden(transcript, name, arguments, code):
    text = transcript("check", *arguments)
    assert text.endswith(f"--- exit code {code}\n")
    assert_golden(name, text)


@pytest.mark.parametrize("arguments", [["quickstart", "accuracy"], ["quickstart", "accuracy=>1"], ["quickstart"], []])
def test_check_a_bad_expression_is_a_usage_error(on_stored_runs, arguments):
    assert on_stored_runs("check", *arguments)[0] == 2


def test_check_json(on_stored_runs):
    code, out, _ = on_stored_runs("check", "quickstart", "accuracy>=0.99", "--json")
    assert code == 3
    assert json.loads(out) == {
        "run_id": "quickstart-20260901T120000Z-a1b2c3",
        "passed": False,
        "conditions": [{"condition": "accuracy >= 0.99", "value": 0.95, "holds": False, "reason": None}],
    }
