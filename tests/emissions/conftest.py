import dataclasses
import logging
from pathlib import Path

import pytest

from finetune.emissions.intensity import Intensity
from finetune.emissions.journal import Journal, journal_path
from finetune.emissions.ledger import Life
from finetune.emissions.meter import EnergyMeter
from tests.synthetic import SyntheticSource

BRAZIL = Intensity(98.348, "a table", 2023, "life-cycle", "BRA", "recipe")


@dataclasses.dataclass
class Clock:
    """A clock that moves only when told to."""

    seconds: float = 1000.0

    def __call__(self):
        return self.seconds

    def sleep(self, seconds):
        self.seconds += seconds


@dataclasses.dataclass(frozen=True)
class Settings:
    """The emissions section of a recipe, without the recipe."""

    country_iso_code: str | None = None
    region: str | None = None
    carbon_intensity_g_per_kwh: float | None = None
    measure_power_secs: float = 5.0
    pue: float = 1.0
    wue: float | None = None
    embodied_kg: float | None = None
    embodied_lifetime_h: float | None = None
    embodied_share: float = 1.0
    cpu_tdp_w: float | None = None


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def settings():
    return Settings


@pytest.fixture
def make_life():
    def make(segment=0, node=0, **changes):
        given = {
            "hostname": f"host-{node}",
            "started_at": "2026-01-01T00:00:00Z",
            "carbon_intensity": BRAZIL,
            "pue": 1.0,
        }
        return Life(segment, node, **(given | changes))

    return make


@pytest.fixture
def make_meter(tmp_path, clock, make_life):
    """Open meters whose sampler sleeps for an hour, so that only the test measures."""
    opened = []

    def make(source=None, directory: Path = tmp_path, life=None, neighbours=None, **options):
        life = life or make_life()
        journal = Journal(journal_path(directory, life.node))
        journal.open_segment(life, {})
        source = source or SyntheticSource({"cpu": 60.0, "ram": 40.0}, options.get("clock", clock))
        meter = EnergyMeter(source, journal, life, **({"interval_s": 3600.0, "clock": clock} | options))
        opened.append(meter)
        return meter.start(neighbours=neighbours)

    yield make
    for meter in opened:
        meter.close("test over")


@pytest.fixture
def codecarbon_home(tmp_path, monkeypatch):
    """Run where codecarbon finds no configuration, and give its process-wide state back."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    yield tmp_path
    for kept in list(logging.getLogger("codecarbon").filters):
        logging.getLogger("codecarbon").removeFilter(kept)


@pytest.fixture
def rapl_cpu(tmp_path):
    """Return a maker of codecarbon's CPU over a fake tree of RAPL counters: {domain: (name, microjoules)}."""

    def make(domains):
        from codecarbon.external.hardware import CPU

        for number, (name, energy_uj) in domains.items():
            folder = tmp_path / f"rapl/intel-rapl/intel-rapl:{number}"
            folder.mkdir(parents=True)
            (folder / "name").write_text(name)
            (folder / "energy_uj").write_text(str(energy_uj))
            (folder / "max_energy_range_uj").write_text("262143328850")
        return CPU(str(tmp_path), "intel_rapl", "a CPU", 65, rapl_dir=str(tmp_path / "rapl"))

    return make
