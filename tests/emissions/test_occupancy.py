from dataclasses import replace

import pytest

from finetune.emissions.components import known
from finetune.emissions.occupancy import lives_section

KWH = 3_600_000_000_000


def test_lives_say_when_which_hardware_was_metered(make_life):
    gpu = replace(known("gpu", "measured", "two cards", "GPU counter"), hardware=("gpu:GPU-a", "gpu:GPU-b"))
    cpu = known("cpu", "measured", "a counter", "CPU counter")
    ram = known("ram", "assumed", "a constant", "memory constant")
    life = make_life(
        components=(cpu, gpu, ram),
        boot_id="boot-1",
        pue=1.5,
        start_up_s=2.5,
        idle_microseconds=10_000_000,
        microjoules={("gpu", "train"): 2 * KWH, ("gpu", "load"): KWH, ("cpu", "train"): KWH // 2},
        microseconds={"train": 60_000_000, "load": 30_000_000},
    )
    (entry,) = lives_section([life])
    assert entry == {
        "segment": 0,
        "node": 0,
        "boot_id": "boot-1",
        "metered_from": "2026-01-01T00:00:12.500Z",
        "duration_s": 90.0,
        "g_per_kwh": pytest.approx(1.5 * 98.348),
        "hardware_kwh": {"cpu": 0.5, "gpu:GPU-a": 1.5, "gpu:GPU-b": 1.5},
    }


def test_lives_without_a_time_say_so(make_life):
    assert lives_section([make_life(started_at="?")])[0]["metered_from"] is None
