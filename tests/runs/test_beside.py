import pytest

from finetune.runs.beside import NO_SCI, beside_lines
from finetune.runs.report import closing_panel
from finetune.runs.show import show_text
from tests.runs.builders import make_emissions, make_run

RECIPE = {"emissions": {"wue": 1.8, "embodied_kg": 150.0, "embodied_lifetime_h": 35_040.0, "embodied_share": 0.25}}


def run_with(**emissions):
    return make_run(emissions=make_emissions({"gpu": 2.0}, **emissions), recipe=RECIPE)


def test_beside_lines_say_value_unit_and_how():
    run = run_with(
        water_l=3.6, embodied_g=1.07, sci_g_per_run=201.07, tracking_overhead_s=0.0412,
        tracking_overhead_percent=0.0858, start_up_s=2.13, wh_per_1000_predictions=0.0209,
        inference={"split": "test", "rows": 720, "duration_s": 3.2, "batch_size": 64, "mean_length_tokens": 21.4},
    )  # fmt: skip
    assert beside_lines(run) == {
        "measuring": "took 0.041 s, 0.086 % of the run; starting it took 2.1 s, which is not in the run's time",
        "answers": "0.0209 Wh for 1,000 predictions (720 rows of test, in 3.2 s, batches of 64, "
        "mean length 21.4 tokens)",
        "water": "3.60 L (1.80 L/kWh × IT energy)",
        "embodied": "1.07 g CO2e (150 kg over 35,040 h, 25 % of the machine, given by the user), not in the total",
        "SCI": "201 g CO2e per training run (200 g operational + 1.07 g embodied; ISO/IEC 21031:2024)",
    }
    page = show_text(run, 100)
    assert "Beside the total:\nmeasuring took 0.041 s" in page
    assert "2.00 kWh" in page  # the total is what it was


def test_beside_lines_leave_out_what_nobody_stated_and_name_why_there_is_no_score():
    assert beside_lines(run_with(water_l=None, embodied_g=None, sci_g_per_run=None)) == {"SCI": NO_SCI}
    assert beside_lines(run_with()) == {}  # a record of before there was any of this
    assert "Beside" not in show_text(run_with(), 100)
    assert beside_lines(make_run(emissions={"energy_kwh": None, "emissions_g": None, "sci_g_per_run": None})) == {}


def test_beside_lines_of_an_incomplete_reading_are_lower_bounds():
    lines = beside_lines(run_with(water_l=3.6, embodied_g=1.0, sci_g_per_run=201.0, complete=False))
    assert lines["water"].startswith("at least 3.60 L")
    assert lines["SCI"].startswith("at least 201 g")
    assert lines["embodied"].startswith("1.00 g")  # hours are known whatever was read


@pytest.mark.parametrize(("percent", "said"), [(0.4, False), (0.6, True), (None, False)])
def test_beside_closing_panel_tells_the_overhead_when_it_is_more_than_half_a_percent(percent, said):
    panel = closing_panel(run_with(tracking_overhead_percent=percent))
    assert ("time    10 min 00 s, 0.60 % of it for measuring" in panel) is said
