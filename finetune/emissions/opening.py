"""Open the meter of a machine for one life of a run: its place, its journal, its source."""

import os
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from finetune.emissions.allocation import Process
from finetune.emissions.beside import Embodied
from finetune.emissions.host import boot_id, node_rank
from finetune.emissions.intensity import Intensity, Place, resolve_intensity
from finetune.emissions.journal import Journal, journal_path, read_journal, timestamp
from finetune.emissions.ledger import Life
from finetune.emissions.meter import EnergyMeter
from finetune.emissions.neighbours import Neighbours
from finetune.emissions.source import PowerSource

LONGEST_INTERVAL_S = 15.0  # a RAPL counter of 65 kJ wraps in 5 minutes at 200 W; codecarbon corrects one wrap only
SHORTEST_INTERVAL_S = 1.0


class Settings(Place, Protocol):
    """The `emissions` section of a recipe, as far as the meter reads it."""

    @property
    def measure_power_secs(self) -> float:
        """Seconds between two measurements."""

    @property
    def pue(self) -> float:
        """Power usage effectiveness."""

    @property
    def wue(self) -> float | None:
        """Water usage effectiveness in litres per kWh."""

    @property
    def embodied_kg(self) -> float | None:
        """What making a machine of the run emitted."""

    @property
    def embodied_lifetime_h(self) -> float | None:
        """How long it serves."""

    @property
    def embodied_share(self) -> float:
        """How much of it the run reserves."""

    @property
    def cpu_tdp_w(self) -> float | None:
        """Thermal design power in watts, where the user knows it."""


@dataclass(frozen=True)
class Segment:
    """Which life of the run begins, and by which processes.

    `number` counts over all nodes; None: the one after those in the journals here. `resumed_from_uj` is
    `Reading.nodes_uj` of the checkpoint that is resumed from. `processes` are those of the run on this machine; none:
    this one alone.
    """

    number: int | None = None
    resumed_from_uj: Mapping[int, int] | None = None
    processes: tuple[Process, ...] = ()


def next_segment(run_directory: Path) -> int:
    """Return the number of the life that begins after those in the journals of a run directory."""
    return max((life.segment for life in read_journal(run_directory)), default=-1) + 1


def open_meter(
    settings: Settings,
    run_directory: Path,
    country: str | None = None,
    region: str | None = None,
    run_id: str = "",
    *,
    segment: Segment = Segment(),
    synchronize: Callable[[], None] | None = None,
    source: PowerSource | None = None,
) -> EnergyMeter:
    """Open the meter of this node in a new segment of the run's journal, and start it in the background.

    `country` and `region` are the command line's. Raises FinetuneError for a place that the intensity tables do not
    have; nothing that measures can fail the run.
    """
    intensity = resolve_intensity(settings, country, region)
    node = node_rank(os.environ)
    earlier = read_journal(run_directory)
    notes: tuple[str, ...] = ()
    interval_s = min(max(settings.measure_power_secs, SHORTEST_INTERVAL_S), LONGEST_INTERVAL_S)
    if interval_s != settings.measure_power_secs:
        notes = (f"measured every {interval_s:g} s, not {settings.measure_power_secs:g} s: 1 to 15 are possible",)
    life = Life(
        segment=next_segment(run_directory) if segment.number is None else segment.number,
        node=node,
        hostname=socket.gethostname(),
        started_at=timestamp(),
        carbon_intensity=intensity,
        pue=settings.pue,
        wue=settings.wue,
        embodied=_embodied(settings),
        boot_id=boot_id(),
        resumed_from_uj=segment.resumed_from_uj,
        notes=notes,
    )
    journal = Journal(journal_path(run_directory, node))
    journal.open_segment(life, {"run_id": run_id, "pid": os.getpid(), "measure_power_secs": interval_s})
    source = source or _codecarbon(settings, run_directory, run_id, intensity, segment.processes)
    meter = EnergyMeter(source, journal, life, earlier=earlier, interval_s=interval_s, synchronize=synchronize)
    return meter.start(background=True, neighbours=Neighbours(run_id) if run_id else None)


def _embodied(settings: Settings) -> Embodied | None:
    if settings.embodied_kg is None or settings.embodied_lifetime_h is None:
        return None
    return Embodied(settings.embodied_kg, settings.embodied_lifetime_h, settings.embodied_share)


def _codecarbon(
    settings: Settings, run_directory: Path, run_id: str, intensity: Intensity, processes: tuple[Process, ...]
) -> PowerSource:
    from finetune.emissions.tracker import CodecarbonSource

    country = (intensity.location or "").partition("/")[0] or None
    return CodecarbonSource(
        run_directory, run_id, intensity.g_per_kwh, country, settings.cpu_tdp_w, processes=processes
    )
