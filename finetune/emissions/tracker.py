"""The only file that imports codecarbon: its offline tracker as a source of the meter's readings.

It is imported inside functions, so that light commands stay light. What is relied on beyond its documented interface
is listed, one fact a test, in tests/emissions/test_codecarbon_facts.py.
"""

import logging
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from finetune.emissions import allocation, gpus
from finetune.emissions.components import COMPONENTS, MICROJOULES_PER_KWH, Component, absent, known, unread
from finetune.emissions.host import is_virtual_machine
from finetune.emissions.load import ShareLoad, SteadyLoad
from finetune.emissions.quiet import Capture
from finetune.text import plural


class CodecarbonSource:
    """codecarbon's offline tracker, driven by the meter: never its tasks, its timer, its files or the network.

    `intensity_g_per_kwh` and `country` only keep codecarbon from looking for a place; grams are computed by the ledger.
    `processes` are those of the run on this machine (none: this one alone); the meter covers what they have together.
    """

    def __init__(
        self,
        run_directory: Path,
        run_id: str,
        intensity_g_per_kwh: float,
        country: str | None = None,
        cpu_tdp_w: float | None = None,
        environment: Mapping[str, str] | None = None,
        processes: Sequence[allocation.Process] = (),
    ) -> None:
        self._arguments = {
            "output_dir": str(run_directory),
            "experiment_id": run_id,
            "force_carbon_intensity_g_co2e_kwh": intensity_g_per_kwh,
            "country_iso_code": country,
        }
        self._cpu_tdp_w = cpu_tdp_w
        self._environment = os.environ if environment is None else environment
        self._processes = tuple(processes)
        self._cpu: allocation.CpuShare | None = None
        self._memory: allocation.MemoryShare | None = None
        self._cards: tuple[gpus.Gpu, ...] = ()
        self._unreachable = 0
        self._strangers: dict[int, set[int]] = {}
        self._capture = Capture()
        self._tracker: Any = None
        self._present: tuple[str, ...] = ()
        self._problems: dict[str, str] = {}
        self._notes: list[str] = []
        self._version = "unknown"

    def start(self) -> tuple[Component, ...]:
        """Build, start and warm up the tracker; where that fails every component says why it gives no reading."""
        logging.getLogger("codecarbon").addFilter(self._capture)
        gpu, gpu_ids = self._resolve_gpus()
        self._look_for_strangers(before_own_work=not _computes_already())
        try:
            self._cpu = allocation.cpu_share(self._processes, environment=self._environment)
            self._memory = allocation.memory_share(_memory_bytes(), environment=self._environment)
            self._tracker = self._build(gpu_ids)
            components = self._describe(gpu)
            self.read()
        except Exception as error:  # any failure of the tracker must leave the run alone; the reason is recorded
            reason = f"codecarbon could not start: {type(error).__name__}: {error}"
            self._problems = dict.fromkeys(COMPONENTS, reason)
            self._tracker = None
            gone = gpu if gpu is not None and gpu.method in (None, "absent") else unread("gpu", reason)
            return (unread("cpu", reason), gone, unread("ram", reason))
        self._present = tuple(part.name for part in components if part.method not in (None, "absent"))
        return components

    def read(self) -> dict[str, int | None]:
        """Measure unconditionally: flush() would skip a call within 50 ms of the last one."""
        if self._tracker is None:
            return {}
        now = time.perf_counter()
        try:
            self._tracker._measure_power_and_energy()
        except Exception as error:  # reported as a failed reading, with its reason
            self._problems = dict.fromkeys(COMPONENTS, f"codecarbon failed: {type(error).__name__}: {error}")
            return dict.fromkeys(self._present)
        # codecarbon stamps the end of its measurement and so loses the time spent inside it.
        self._tracker._last_measured_time = now
        self._tracker._clear_utilization_history()  # grows each second, and nobody reads it here
        totals = {name: getattr(self._tracker, f"_total_{name}_energy").kWh for name in self._present}
        readings: dict[str, int | None] = {name: round(kwh * MICROJOULES_PER_KWH) for name, kwh in totals.items()}
        if "cpu" in readings and _lost_rapl_sample(self._tracker._hardware):
            self._problems["cpu"] = "a RAPL counter could not be read for a while"
            readings["cpu"] = None
        return readings

    def stop(self) -> None:
        """Stop codecarbon's threads and take away the log filter."""
        self._look_for_strangers(before_own_work=False)
        if self._tracker is not None:
            monitor = self._tracker._scheduler_monitor_power
            if monitor is not None:
                # A timer that fires during stop() would start itself again.
                monitor.start = lambda from_run=False: None
            self._tracker.stop()
            self._tracker = None
        logging.getLogger("codecarbon").removeFilter(self._capture)

    def problem(self, component: str) -> str:
        """Return the reason of the last failed reading."""
        return self._problems.get(component, f"codecarbon gave no reading for {component}")

    def tool(self) -> dict[str, str]:
        """Return codecarbon and its version."""
        return {"name": "codecarbon", "version": self._version}

    def notes(self) -> tuple[str, ...]:
        """Return our own notes and codecarbon's warnings, each once."""
        shared = (
            f"GPU {index} is also used by {plural(len(pids), 'other process', 'other processes')} "
            f"(process id {', '.join(map(str, sorted(pids)))}): what they draw is in the reading"
            for index, pids in sorted(self._strangers.items())
        )
        return (*self._notes, *shared, *self._capture.warnings)

    def _resolve_gpus(self) -> tuple[Component | None, list[int] | None]:
        """Return the GPU component where it is settled without codecarbon, and the NVML indices to track."""
        cards = gpus.nvidia_gpus()
        if cards is None:
            if gpus.has_nvidia_driver():
                return unread("gpu", "there is an NVIDIA GPU, but NVML cannot be asked about it"), []
            return None, None  # perhaps an AMD card: codecarbon finds those itself
        stated = self._environment.get(gpus.VARIABLE)
        # Each process of the run may see another card, or all of them: each card counts once.
        theirs = {uuid for process in self._processes for uuid in process.gpu_uuids}
        seen = gpus.visible_gpus(stated, cards)
        self._cards = tuple(card for card in cards if card.index in seen or card.uuid in theirs)
        self._unreachable = len(theirs - {card.uuid for card in cards})
        visible = [card.index for card in self._cards]
        if not visible and self._unreachable:
            return unread("gpu", self._unreachable_words()), []
        if not cards:
            return absent("gpu", "no GPU was found"), []
        if not visible:
            return absent("gpu", f"{gpus.VARIABLE}={stated!r} hides every GPU of this machine"), []
        if len(visible) < len(cards) and gpus.has_ambiguous_order(stated, cards, self._environment):
            self._notes.append(
                "CUDA numbers unlike GPUs fastest first, the meter by bus: set CUDA_DEVICE_ORDER=PCI_BUS_ID so that "
                "both mean the same cards"
            )
        return None, visible

    def _unreachable_words(self) -> str:
        return (
            f"{plural(self._unreachable, 'GPU')} of other processes of this run cannot be read by the one that meters"
        )

    def _look_for_strangers(self, *, before_own_work: bool) -> None:
        listed = gpus.compute_processes(card.index for card in self._cards)
        own = {os.getpid(), *(process.pid for process in self._processes)}
        for index, pids in gpus.strangers(listed, own, before_own_work=before_own_work).items():
            self._strangers.setdefault(index, set()).update(pids)

    def _build(self, gpu_ids: list[int] | None) -> Any:
        import codecarbon
        from codecarbon.core import cpu

        _keep_out_of_slurm()
        self._version = codecarbon.__version__
        tdp_w = self._cpu_tdp_w
        if cpu.is_rapl_available() or cpu.is_raspberry():
            if tdp_w is not None:
                self._notes.append("emissions.cpu_tdp_w is not used: the CPU has an energy counter")
            tdp_w = None  # a forced power would switch the counter off
        elif self._cpu is not None:
            tdp_w = (tdp_w or _machine_tdp_w(self._cpu.of)[0]) * self._cpu.count / self._cpu.of
        tracker = codecarbon.OfflineEmissionsTracker(
            **self._arguments,
            **_fixed_arguments(),
            gpu_ids=gpu_ids,
            force_cpu_power=tdp_w,
            force_ram_power=_ram_watts(self._memory),
        )
        if not hasattr(tracker, "_start_time"):  # its constructor swallows its own errors
            raise RuntimeError(self._capture.last() or "the tracker is half built")
        tracker._ensure_hardware_ready()
        if gpu_ids == []:
            # codecarbon's hardware cache turns an empty list into "all GPUs".
            tracker._hardware = [part for part in tracker._hardware if type(part).__name__ != "GPU"]
        tracker.start()
        if not tracker._power_measurement_count:  # start() ends with a measurement, and swallows its errors too
            raise RuntimeError(self._capture.last() or "the tracker did not start")
        for part in tracker._hardware:
            if getattr(part, "_mode", None) == "cpu_load":
                if self._cpu is not None and (load := ShareLoad(self._cpu)).can_read:
                    part._cpu_load_meter = load
                part.measure_power_and_energy = _in_units(SteadyLoad(part))
        return tracker

    def _describe(self, gpu: Component | None) -> tuple[Component, ...]:
        found = {part.name: part for part in map(_describe_hardware, self._tracker._hardware) if part is not None}
        if gpu is not None:
            found["gpu"] = gpu
        elif self._cards and "gpu" in found:
            keys = tuple(f"gpu:{card.uuid}" for card in self._cards)
            lacks = self._unreachable_words() if self._unreachable else ""
            found["gpu"] = replace(found["gpu"], hardware=keys, lacks=lacks)
        found.setdefault("gpu", absent("gpu", "no GPU was found"))
        if "cpu" in found:
            found["cpu"] = self._describe_cpu_share(found["cpu"])
        if self._memory is not None and "ram" in found and found["ram"].method == "assumed":
            share = f"{self._memory.bytes / allocation.GIB:.3g} of {_memory_bytes() / allocation.GIB:.3g} GiB"
            watts = _ram_watts(self._memory)
            found["ram"] = replace(
                found["ram"],
                detail=f"memory constant, {watts:.1f} W, {self._memory.known_from}-scaled, {share}",
                hardware=(f"ram:{self._memory.key}",),
            )
        return tuple(found.get(name) or unread(name, f"codecarbon does not track {name} here") for name in COMPONENTS)

    def _describe_cpu_share(self, cpu: Component) -> Component:
        share, given_w = self._cpu, self._cpu_tdp_w
        if cpu.method == "measured" and share is not None:
            part = f"{share.count:g} of {share.of} processors"
            return replace(cpu, detail=f"{cpu.detail}, of the whole machine; this run has {part} ({share.known_from})")
        if cpu.method != "modelled":
            return cpu
        if share is None:
            if given_w is None:
                return cpu
            detail = f"CPU load model, TDP {given_w:g} W given by the user"
            return known("cpu", "modelled", detail, "CPU load, TDP known")
        whole_w, named = (given_w, "given by the user") if given_w is not None else _machine_tdp_w(share.of)
        detail = f"CPU load model, TDP {whole_w * share.count / share.of:.4g} W, {share.words()}, {whole_w:g} W {named}"
        if not ShareLoad(share).can_read:
            detail += ", at the load of the whole machine"
        # What a part of a processor draws is not its part of the TDP: caches, memory control and idling are shared.
        return replace(known("cpu", "modelled", detail, "CPU load, TDP unknown"), hardware=(f"cpu:{share.key}",))


def _fixed_arguments() -> dict[str, Any]:
    """Return every setting of the tracker that is the same in all runs.

    One that is left out would be read from ~/.codecarbon.config, ./.codecarbon.config or CODECARBON_* variables.
    """
    return {
        "project_name": "finetune",
        "experiment_name": "run",
        "region": None,
        "cloud_provider": None,
        "cloud_region": None,
        "country_2letter_iso_code": None,
        "electricitymaps_api_token": "",  # None would let an old variable set a token, and a token opens the network
        "measure_power_secs": 86_400,
        "api_call_interval": -1,
        "api_endpoint": "",
        "api_key": "",
        "emissions_endpoint": None,
        "output_methods": [],
        "output_handlers": [],
        "output_file": "emissions.csv",
        "on_csv_write": "append",
        "logging_logger": None,
        "logger_preamble": "",
        "prometheus_url": "",
        "metadata": None,
        "tracking_mode": "machine",
        "force_mode_cpu_load": False,
        "rapl_include_dram": False,
        "rapl_prefer_psys": False,
        "pue": 1.0,
        "wue": 0.0,
        "allow_multiple_runs": True,
        "log_level": "warning",
    }


def _keep_out_of_slurm() -> None:
    """Keep codecarbon from asking scontrol, which a container lacks, for an allocation that is scaled to here."""
    from codecarbon.core import util
    from codecarbon.external import ram

    util.SLURM_JOB_ID = ram.SLURM_JOB_ID = None


def _in_units(load: SteadyLoad) -> Callable[[float], tuple[Any, Any]]:
    """Return what codecarbon calls to measure a processor."""
    from codecarbon.core.units import Energy, Power

    def measure(last_duration: float) -> tuple[Any, Any]:
        watts, joules = load.measure()
        return Power.from_watts(watts), Energy.from_energy(kWh=joules / 3.6e6)

    return measure


def _computes_already() -> bool:
    """Tell whether this process has opened a GPU; torch is not imported to find out."""
    # The meter starts beside the imports of the main thread: a torch that is half imported has computed nothing yet.
    is_initialized = getattr(getattr(sys.modules.get("torch"), "cuda", None), "is_initialized", None)
    return is_initialized is not None and bool(is_initialized())


def _memory_bytes() -> int:
    import psutil

    return int(psutil.virtual_memory().total)


def _ram_watts(share: allocation.MemoryShare | None) -> float:
    """Return the memory constant for a share, or for the whole machine's memory.

    Always given: without it codecarbon asks SLURM at each measurement, and counts 0 W where scontrol is not there.
    """
    from codecarbon.external.ram import RAM

    count = _memory_bytes() if share is None else share.bytes
    return float(RAM()._calculate_ram_power(count / allocation.GIB))


def _machine_tdp_w(cpus: int) -> tuple[float, str]:
    """Return the TDP of all processors of this machine together, and where it is from.

    codecarbon's own guess for an unknown processor, 4 W a thread, counts the threads of the SLURM job only.
    """
    from codecarbon.core import cpu
    from codecarbon.core.hardware_cache import get_cached_tdp
    from codecarbon.core.util import count_physical_cpus

    model = get_cached_tdp(cpu).model
    known_w = get_cached_tdp(cpu)._get_cpu_power_from_registry(model)
    if known_w is None:
        return 4.0 * cpus, f"guessed, {model} is not in the table"
    return float(known_w) * count_physical_cpus(), f"of {model}"


def _describe_hardware(part: Any) -> Component | None:
    kind = type(part).__name__
    if kind == "CPU":
        return _describe_cpu(part)
    if kind == "RAM":
        watts = part.total_power().W
        detail = f"memory constant, {watts:.1f} W from the size of the memory"
        return known("ram", "assumed", detail, "memory constant")
    if kind == "GPU":
        tracked = [card for card in part.devices.devices if card.gpu_index in part._get_gpu_ids()]
        cards = ", ".join(f"{card._gpu_name} ({card._uuid})" for card in tracked)
        if not tracked:
            return absent("gpu", "no GPU is visible to this run")
        if all(card._has_counter and not card._use_power_fallback for card in tracked):
            return known("gpu", "measured", f"energy counter of {cards}", "GPU counter")
        return known("gpu", "measured", f"power sampled each second, no energy counter, of {cards}", "power samples")
    if kind in ("Raspberry", "AppleSiliconChip"):
        method = "measured" if kind == "Raspberry" else "modelled"
        return known(part.chip_part.lower(), method, f"{kind} power samples", "power samples")
    return None


def _describe_cpu(cpu: Any) -> Component:
    if cpu._mode == "intel_rapl":
        return known("cpu", "measured", f"RAPL package counter of {cpu._model}", "CPU counter")
    if cpu._mode in ("windows_emi", "intel_power_gadget"):
        return known("cpu", "measured", f"{cpu._mode} of {cpu._model}", "CPU counter")
    if cpu._mode != "cpu_load":
        return known("cpu", "assumed", f"half of a TDP of {cpu._tdp:g} W", "CPU load, TDP unknown")
    sure = not cpu._is_generic_tdp and _is_tdp_known(cpu._model)
    virtual = is_virtual_machine()
    what = f"TDP {cpu._tdp:g} W " + (f"of {cpu._model}" if sure else f"guessed, {cpu._model} is not in the table")
    # In a virtual machine the named processor is the host's, or invented: its TDP says little about this share of it.
    band = "CPU load, TDP known" if sure and not virtual else "CPU load, TDP unknown"
    return known("cpu", "modelled", f"CPU load model, {what}" + (", virtual machine" if virtual else ""), band)


def _is_tdp_known(model: str) -> bool:
    from codecarbon.core import cpu
    from codecarbon.core.hardware_cache import get_cached_tdp

    return get_cached_tdp(cpu)._get_cpu_power_from_registry(model) is not None


def _lost_rapl_sample(hardware: list[Any]) -> bool:
    counters = [part._intel_interface for part in hardware if getattr(part, "_mode", None) == "intel_rapl"]
    return any(file.sample_skipped for counter in counters for file in counter._rapl_files)
