import dataclasses
import json

import pytest

from finetune.emissions.beside import Embodied
from finetune.emissions.components import known, unread
from finetune.emissions.journal import Journal, journal_path, read_journal
from finetune.emissions.ledger import summarize
from finetune.emissions.opening import open_meter
from tests.synthetic import SyntheticSource

KWH = 3_600_000_000_000
CPU = known("cpu", "modelled", "load model", "CPU load, TDP known")
CARD = Embodied(kg=150.0, lifetime_h=30_000.0, share=0.25)


def spent(life, kwh, hours, start_up_s=0.0):
    return dataclasses.replace(
        life,
        components=(CPU,),
        microjoules={("cpu", "train"): kwh * KWH},
        microseconds={"train": round(hours * 3.6e9)},
        start_up_s=start_up_s,
    )


def test_beside_multiplies_water_with_it_energy_and_leaves_pue_out(make_life):
    section = summarize([spent(make_life(pue=2.0, wue=1.0), 1, 1)])
    assert section["water_l"] == pytest.approx(1.0)  # not 2: codecarbon would multiply by its PUE
    assert section["emissions_g"] == pytest.approx(2 * 98.348)


def test_beside_adds_water_and_embodied_over_lives_and_machines(make_life):
    lives = [
        spent(make_life(0, 0, wue=1.8, embodied=CARD), 2, 10),
        spent(make_life(0, 1, wue=1.8, embodied=CARD), 3, 10),
        spent(make_life(1, 0, wue=0.0, embodied=Embodied(1500.0, 50_000.0)), 1, 2, start_up_s=3600.0),
    ]
    section = summarize(lives)
    assert section["water_l"] == pytest.approx(1.8 * 5)
    made_g = 2 * 150_000 * 0.25 * 10 / 30_000 + 1_500_000 * 3 / 50_000
    assert section["embodied_g"] == pytest.approx(made_g)
    assert section["emissions_g"] == pytest.approx(6 * 98.348)  # neither is ever in it
    assert section["sci_g_per_run"] == pytest.approx(6 * 98.348 + made_g)


def test_beside_counts_the_time_of_an_idle_baseline_as_reserved(make_life):
    life = spent(make_life(embodied=CARD), 1, 10)
    rested = dataclasses.replace(life, idle_microseconds=round(5 * 3.6e9))
    assert summarize([rested])["embodied_g"] == pytest.approx(1.5 * summarize([life])["embodied_g"])


@pytest.mark.parametrize("stated", [(None, None), (CARD, None)])
def test_beside_gives_no_sci_score_without_embodied_emissions_of_every_life(make_life, stated):
    lives = [spent(make_life(number, embodied=figures), 1, 1) for number, figures in enumerate(stated)]
    section = summarize(lives)
    assert section["embodied_g"] is None
    assert section["sci_g_per_run"] is None
    assert section["emissions_g"] is not None


def test_beside_gives_null_for_what_was_not_stated_or_not_measured(make_life):
    assert summarize([spent(make_life(), 1, 1)])["water_l"] is None
    assert summarize([])["water_l"] is None
    assert summarize([])["embodied_g"] is None
    unmeasured = dataclasses.replace(spent(make_life(wue=1.0, embodied=CARD), 0, 1), components=(unread("cpu", "x"),))
    section = summarize([unmeasured])
    assert (section["water_l"], section["sci_g_per_run"]) == (None, None)
    assert section["embodied_g"] > 0  # time was reserved, whatever it drew


def test_beside_figures_survive_in_the_journal_and_old_journals_are_read(tmp_path, make_life):
    Journal(journal_path(tmp_path, 0)).open_segment(make_life(wue=1.8, embodied=CARD), {})
    [read] = read_journal(tmp_path)
    assert (read.wue, read.embodied) == (1.8, CARD)
    line = json.loads(journal_path(tmp_path, 0).read_text())
    del line["wue"], line["embodied"]
    journal_path(tmp_path, 0).write_text(json.dumps(line) + "\n")
    [read] = read_journal(tmp_path)
    assert (read.wue, read.embodied) == (None, None)


def test_beside_reads_the_recipe(tmp_path, settings):
    stated = settings(
        country_iso_code="BRA", wue=1.8, embodied_kg=150.0, embodied_lifetime_h=30_000.0, embodied_share=0.25
    )
    meter = open_meter(stated, tmp_path, source=SyntheticSource({"cpu": 100.0}))
    with meter.phase("train"):
        pass
    meter.close("completed")
    section = meter.summary()
    assert section["water_l"] == pytest.approx(1.8 * section["energy_kwh"])
    hours = (section["duration_s"] + section["start_up_s"]) / 3600
    assert section["embodied_g"] == pytest.approx(150_000 * 0.25 * hours / 30_000)


def test_beside_overhead_is_a_share_of_the_time_of_all_machines(make_life):
    lives = [dataclasses.replace(spent(make_life(0, node), 1, 1), overhead_s=3.6) for node in (0, 1)]
    section = summarize(lives)
    assert section["tracking_overhead_s"] == pytest.approx(7.2)
    assert section["tracking_overhead_percent"] == pytest.approx(0.1)
    assert summarize([])["tracking_overhead_percent"] is None
