import random

import pytest

from finetune.runs.total import total_energy, total_lines
from tests.runs.builders import make_emissions, make_run


def life(minute, minutes, kwh, boot="boot-1", **fields):
    """Return a life that metered from a minute of 2026 on: kwh by hardware key."""
    started = f"2026-01-01T{minute // 60:02d}:{minute % 60:02d}:00.000Z"
    return {
        "segment": 0, "node": 0, "boot_id": boot, "metered_from": started, "duration_s": minutes * 60.0,
        "g_per_kwh": 100.0, "hardware_kwh": kwh, **fields,
    }  # fmt: skip


def run_of(run_id, *lives, **fields):
    kwh = {}
    for one in lives:
        for key, value in one["hardware_kwh"].items():
            kind = key.partition(":")[0]
            kwh[kind] = kwh.get(kind, 0) + value
    return make_run(run_id, emissions=make_emissions(kwh, lives=list(lives), **fields))


def test_total_counts_failed_runs_and_says_what_is_missing():
    runs = [
        make_run("a", emissions=make_emissions({"gpu": 1.0})),
        make_run("b", emissions=make_emissions({"gpu": 2.0}, complete=False), status="failed"),
        make_run("c", emissions={}),
        make_run("d", emissions=make_emissions({"gpu": 4.0}, shared_with=["a"])),
    ]
    assert total_energy(runs) == {
        "runs": 4, "energy_kwh": 7.0, "emissions_g": 700.0, "metered_twice_kwh": 0, "without_reading": 1,
        "incomplete": 1, "shared": 1,
    }  # fmt: skip
    assert total_energy([make_run(emissions={})])["energy_kwh"] is None


@pytest.mark.parametrize(
    ("runs", "kwh"),
    [
        # one after the other
        ([[life(0, 60, {"cpu": 1.0})], [life(60, 60, {"cpu": 2.0})]], 3.0),
        # the second wholly inside the first, whose reading holds it
        ([[life(0, 60, {"cpu": 1.0})], [life(10, 20, {"cpu": 0.5})]], 1.0),
        # half of the second beside the first
        ([[life(0, 60, {"cpu": 1.0})], [life(30, 60, {"cpu": 1.0})]], 1.5),
        # the third covered by the two others together
        ([[life(0, 60, {"cpu": 1.0})], [life(60, 60, {"cpu": 1.0})], [life(30, 60, {"cpu": 9.0})]], 1.0 + 4.5 + 0.5),
        # same hours, another machine or another boot of it
        ([[life(0, 60, {"cpu": 1.0})], [life(0, 60, {"cpu": 2.0}, boot="boot-2")]], 3.0),
        # one machine, a card each: only processor and memory are metered twice
        (
            [
                [life(0, 60, {"cpu": 1.0, "ram": 0.2, "gpu:A": 3.0})],
                [life(0, 60, {"cpu": 1.0, "ram": 0.2, "gpu:B": 4.0})],
            ],
            8.2,
        ),
        # two containers with a part each
        ([[life(0, 60, {"cpu:cgroup-1": 1.0})], [life(0, 60, {"cpu:cgroup-2": 2.0})]], 3.0),
        # a container beside a run that meters the whole machine
        ([[life(0, 60, {"cpu:cgroup-1": 1.0})], [life(30, 60, {"cpu": 6.0})]], 6.5),
        # a resumed run: the lives between which another one ran
        ([[life(0, 10, {"cpu": 1.0}), life(30, 10, {"cpu": 1.0})], [life(10, 20, {"cpu": 1.0})]], 3.0),
        # two meters of one run on one machine (two hosts that share it)
        ([[life(0, 60, {"cpu": 1.0}), life(0, 60, {"cpu": 1.0}, node=1)]], 1.0),
    ],
)
def test_total_counts_each_second_of_any_hardware_once(runs, kwh):
    records = [run_of(f"r{number}", *lives, shared_with=["x"]) for number, lives in enumerate(runs)]
    total = total_energy(records)
    assert total["energy_kwh"] == pytest.approx(kwh)
    assert total["emissions_g"] == pytest.approx(100 * kwh)
    assert total["shared"] == 0
    random.Random(7).shuffle(records)
    assert total_energy(records)["energy_kwh"] == pytest.approx(kwh)


def test_total_is_never_more_than_the_sum_and_never_nothing():
    draw = random.Random(1)
    for _ in range(50):
        records = [
            run_of(f"r{number}", life(draw.randrange(300), draw.randrange(1, 90), {"cpu": draw.random()}))
            for number in range(draw.randrange(1, 9))
        ]
        energies = [record.energy_kwh() for record in records]
        assert 0 < total_energy(records)["energy_kwh"] <= sum(energies) + 1e-12


def test_total_counts_a_life_without_time_or_machine_in_full():
    damaged = [life(0, 60, {"cpu": 1.0}) | changes for changes in (
        {"boot_id": None}, {"metered_from": "?"}, {"metered_from": None}, {"duration_s": 0.0}, {"hardware_kwh": []},
    )]  # fmt: skip
    records = [run_of("whole", life(0, 60, {"cpu": 1.0}))]
    for number, one in enumerate(damaged):
        emissions = make_emissions({"cpu": 1.0}, lives=[one, "nonsense"], shared_with=["whole"])
        records.append(make_run(f"d{number}", emissions=emissions))
    total = total_energy(records)
    assert total["energy_kwh"] == pytest.approx(6.0)
    assert total["shared"] == 5


def test_total_lines_say_what_was_left_out():
    lines = total_lines([run_of("a", life(0, 60, {"cpu": 1.0})), run_of("b", life(0, 30, {"cpu": 0.5}))])
    assert lines[0].startswith("total   1.00 kWh, 100 g CO2e as run in 2 runs")
    assert lines[1] == (
        "        500 Wh that runs side by side metered once more are left out: each second of a machine counts once"
    )
    assert len(total_lines([run_of("a", life(0, 60, {"cpu": 1.0}))])) == 1
