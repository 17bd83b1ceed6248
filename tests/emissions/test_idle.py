import pytest

from finetune.emissions.components import absent, known
from finetune.emissions.idle import idle_section

GPU = known("gpu", "measured", "a card", "GPU counter")
CPU = known("cpu", "modelled", "a model", "CPU load, TDP known")
RAM = known("ram", "assumed", "a constant", "memory constant")
KWH = 3_600_000_000_000


def life(make_life, watts=40, idle_s=10, spent_j=1000, seconds=20, **changes):
    return make_life(
        components=(CPU, GPU, RAM),
        microjoules={("gpu", "train"): spent_j * 10**6, ("cpu", "train"): 5 * 10**6},
        microseconds={"train": seconds * 10**6},
        idle_microjoules={"gpu": watts * idle_s * 10**6, "cpu": 7 * 10**6},
        idle_microseconds=idle_s * 10**6,
        **changes,
    )


def test_idle_is_none_without_a_baseline(make_life):
    assert idle_section([]) is None
    assert idle_section([make_life(components=(GPU,))]) is None


def test_above_idle_is_energy_less_idle_power_times_time_of_what_a_sensor_reads(make_life):
    section = idle_section([life(make_life)])
    assert section["duration_s"] == 10
    assert section["watts"] == {"cpu": None, "gpu": pytest.approx(40.0), "ram": None}
    assert section["above_idle_kwh"]["gpu"] == pytest.approx((1000 - 40 * 20) * 1e6 / KWH)
    assert section["above_idle_kwh"]["cpu"] is None  # a model says nothing about rest
    assert section["above_idle_kwh"]["ram"] is None


def test_above_idle_is_not_clipped(make_life):
    section = idle_section([life(make_life, watts=60)])
    assert section["above_idle_kwh"]["gpu"] == pytest.approx((1000 - 1200) * 1e6 / KWH)


def test_above_idle_takes_each_machine_and_life_with_its_own_baseline(make_life):
    lives = [
        life(make_life, watts=40),
        life(make_life, node=1, watts=10),
        life(make_life, segment=1, watts=30, seconds=10),
    ]
    section = idle_section(lives)
    above_j = (1000 - 800) + (1000 - 200) + (1000 - 300)
    assert section["above_idle_kwh"]["gpu"] == pytest.approx(above_j * 1e6 / KWH)
    assert section["watts"]["gpu"] == pytest.approx(35 + 10)  # both machines; the first one's mean over its lives
    assert section["duration_s"] == 20


def test_above_idle_is_unknown_when_one_life_has_no_baseline_or_no_reading(make_life):
    without = life(make_life, segment=1, idle_s=0)
    assert idle_section([life(make_life), without])["above_idle_kwh"]["gpu"] is None
    assert idle_section([life(make_life), without])["watts"]["gpu"] == pytest.approx(40)
    lost = life(make_life, segment=1, missing={"gpu": "gone"})
    assert idle_section([life(make_life), lost])["above_idle_kwh"]["gpu"] is None


def test_idle_of_an_absent_component_is_unknown(make_life):
    alone = make_life(components=(absent("gpu", "none"),), idle_microseconds=10**7)
    assert idle_section([alone])["watts"]["gpu"] is None
    assert idle_section([alone])["above_idle_kwh"]["gpu"] is None
