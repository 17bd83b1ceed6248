"""How busy the processors are, and what the load model makes of it."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from finetune.emissions.allocation import CpuShare, group_cpu_seconds


class ShareLoad:
    """The load of a share of the processors between two questions, in percent.

    Of a quota: the time that its control group used, of the time that it may use. Of processors known by number: how
    busy these were. The machine's own load would be that of its other tenants, too.
    """

    def __init__(self, share: CpuShare, root: Path = Path("/"), clock: Callable[[], float] = time.monotonic) -> None:
        self._share, self._root, self._clock = share, root, clock
        self._last = self._read()
        self._percent = 0.0

    @property
    def can_read(self) -> bool:
        """Tell whether the load of this share can be read here."""
        return self._last is not None

    def reset(self) -> None:
        """Begin to count anew."""
        self._last = self._read()

    def percent(self) -> float:
        """Return the load since the last question; where nothing can be read, or no time has passed, the last one."""
        before, self._last = self._last, self._read()
        if before is not None and self._last is not None and self._last[1] > before[1]:
            used, possible = (now - then for now, then in zip(self._last, before, strict=True))
            self._percent = min(max(100 * used / possible, 0.0), 100.0)
        return self._percent

    def _read(self) -> tuple[float, float] | None:
        """Return the processor time used so far, and what could have been used."""
        if self._share.group is not None:
            used_s = group_cpu_seconds(self._share.group)
            return None if used_s is None else (used_s, self._clock() * self._share.count)
        return self._busy() if self._share.numbers else None

    def _busy(self) -> tuple[float, float] | None:
        wanted = {f"cpu{number}" for number in self._share.numbers}
        try:
            lines = (self._root / "proc/stat").read_text(encoding="utf-8").splitlines()
        except OSError:
            return None
        # user nice system idle iowait irq softirq steal; guests are in user and nice already
        counted = [[int(ticks) for ticks in line.split()[1:9]] for line in lines if line.split(" ", 1)[0] in wanted]
        total = sum(map(sum, counted))
        return (total - sum(ticks[3] + ticks[4] for ticks in counted), total) if len(counted) == len(wanted) else None


class SteadyLoad:
    """Energy of a CPU from codecarbon's load model, sampled each second whatever happens at the borders of phases.

    The model is cubic in the load, so a sample more or less changes the result: borders must not sample. The part of
    a second since the last sample is counted at that sample's power, and the surplus is taken back from what follows.
    """

    SHORTEST_SAMPLE_S = 0.2  # the kernel counts processor time in hundredths of a second

    def __init__(self, cpu: Any) -> None:
        self._cpu = cpu
        self._sampled_j = 0.0
        self._watts: float | None = None
        self._reported_j = 0.0

    def measure(self) -> tuple[float, float]:
        """Return the power in watts and the energy since the last call in joules."""
        with self._cpu._power_history_lock:
            samples, self._cpu._power_history = self._cpu._power_history, []
            tail_s = time.perf_counter() - self._cpu._last_sample_time
            if not samples and self._watts is None and tail_s > self.SHORTEST_SAMPLE_S:
                samples, tail_s = [self._cpu._take_power_sample()], 0.0  # the first second: nothing else to go by
        for power, seconds in samples:
            self._sampled_j += power.W * seconds
            self._watts = power.W
        watts = self._watts if self._watts is not None else 0.1 * self._cpu._tdp  # the model's least
        total_j = max(self._reported_j, self._sampled_j + watts * tail_s)
        delta_j, self._reported_j = total_j - self._reported_j, total_j
        return watts, delta_j
