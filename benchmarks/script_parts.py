"""What the training scripts share: arguments, rows, the clock of the steps. Nothing of finetune is imported."""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil


def argument_parser(name: str, description: str) -> argparse.ArgumentParser:
    """Return a parser with the arguments that every training script takes."""
    parser = argparse.ArgumentParser(prog=name, description=description)
    parser.add_argument("--model", required=True, help="folder of the checkpoint")
    parser.add_argument("--data", type=Path, required=True, help="folder with train, validation and test .jsonl")
    parser.add_argument("--result", type=Path, required=True, help="JSON file to write")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--learning-rate", type=float, required=True)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--eval-batch-size", type=int, default=64)
    parser.add_argument("--max-length", type=int, default=64, help="tokens")
    parser.add_argument("--mixed-precision", choices=["no", "bf16", "fp16"], default="no")
    return parser


def read_splits(folder: Path) -> dict[str, list[dict[str, str]]]:
    """Return the rows of train, validation and test."""
    splits = {}
    for name in ("train", "validation", "test"):
        with (folder / f"{name}.jsonl").open(encoding="utf-8") as lines:
            splits[name] = [json.loads(line) for line in lines]
    return splits


def label_names(splits: dict[str, list[dict[str, str]]]) -> list[str]:
    """Return the labels of the training rows, sorted."""
    return sorted({row["label"] for row in splits["train"]})


class StepClock:
    """Add up what the optimizer steps take, with the reading of their batches; pauses between them are left out."""

    def __init__(self) -> None:
        self.wall_s = self.cpu_s = self._busy_s = 0.0
        self.began = self.ended = 0.0  # seconds since 1970
        self._last = (0.0, 0.0, 0.0)

    def mark(self) -> None:
        """Start anew: what has passed until now is not counted."""
        self.began = self.began or time.time()
        self._last = _clocks()

    def lap(self) -> None:
        """Count what has passed since the last mark or lap."""
        now = _clocks()
        wall_s, cpu_s, busy_s = (new - old for new, old in zip(now, self._last, strict=True))
        self.wall_s, self.cpu_s, self._busy_s = self.wall_s + wall_s, self.cpu_s + cpu_s, self._busy_s + busy_s
        self._last, self.ended = now, time.time()

    def result(self) -> dict[str, Any]:
        """Return times in seconds, the share (0 to 1) of the processors that others used, and peak memory in bytes."""
        others_s = max(0.0, self._busy_s - self.cpu_s)
        return {
            "training_s": self.wall_s,
            "training_cpu_s": self.cpu_s,
            "training_others_share": others_s / (self.wall_s * (psutil.cpu_count() or 1)),
            "began": self.began,
            "ended": self.ended,
            "peak_memory_bytes": _peak_memory_bytes(),
            "peak_gpu_bytes": _peak_gpu_bytes(),
        }


def around_steps(steps: Callable[..., Any], clock: StepClock) -> Callable[..., Any]:
    """Return the generator function `steps` with a clock that runs while it works and rests while it waits."""

    def timed_steps(*arguments: Any) -> Any:
        working = steps(*arguments)
        try:
            while True:
                clock.mark()
                try:
                    step = next(working)
                except StopIteration:
                    return
                clock.lap()
                yield step
        finally:
            working.close()

    return timed_steps


def finish_gpu_work() -> None:
    """Wait until a GPU has done what it was given; without one return at once."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.synchronize()


def busy_s() -> float:
    """Return the processor time that everybody has used since the machine started, in seconds."""
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - getattr(times, "iowait", 0.0) - getattr(times, "guest", 0.0))


def _clocks() -> tuple[float, float, float]:
    return time.perf_counter(), time.process_time(), busy_s()


def _peak_memory_bytes() -> int:
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _peak_gpu_bytes() -> int | None:
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return None
    return int(torch.cuda.max_memory_allocated())
