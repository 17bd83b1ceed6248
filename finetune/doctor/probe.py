"""What only torch and codecarbon can tell, printed as JSON: run as a process of its own, so that doctor stays light."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from finetune.emissions.host import usable_processors
from finetune.training.launch import module_process

TIMEOUT_S = 180.0
Section = dict[str, Any]


def ask_probe(command: list[str] | None = None) -> Section:
    """Run the probe and return its sections `torch` and `meter`; one that failed is {"error": why}."""
    own, environment = module_process("finetune.doctor.probe")
    command = command or own
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, env=environment, check=False)
    except subprocess.TimeoutExpired:
        return _both(f"no answer within {TIMEOUT_S:g} s")
    lines = done.stdout.strip().splitlines()
    if done.returncode != 0 or not lines:
        said = done.stderr.strip().splitlines()
        return _both(f"{said[-1] if said else 'no output'} (exit code {done.returncode})")
    sections: Section = json.loads(lines[-1])  # libraries may have printed lines of their own before it
    return sections


def _both(error: str) -> Section:
    return {"torch": {"error": error}, "meter": {"error": error}}


def main() -> None:
    """Print what was found, one line of JSON."""
    from finetune.console import quiet_libraries

    quiet_libraries()
    print(json.dumps({"torch": _section(_torch), "meter": _section(_meter)}))


def _section(look: Callable[[], Section]) -> Section:
    try:
        return look()
    except Exception as error:  # a broken installation fails in any way it likes; the reason is what is asked for
        return {"error": f"{type(error).__name__}: {error}"}


def _torch() -> Section:
    """Choose device and precision as a run does."""
    import torch

    from finetune.training.hardware import (
        choose_precision,
        describe_hardware,
        has_native_bf16,
        pick_device,
        start_accelerator,
    )

    device = pick_device()
    hardware = describe_hardware(start_accelerator(choose_precision("auto", device, "bert"), [], ""))
    gpus = [_gpu(index) for index in range(torch.cuda.device_count())] if device == "cuda" else []
    return {
        "version": torch.__version__,
        "cuda": torch.version.cuda,
        "device": hardware.device,
        "names": gpus or [hardware.device_name],
        "native_bf16": has_native_bf16(device),
        "precision": hardware.mixed_precision,
        "threads": hardware.threads,
        "cpus": usable_processors(),
    }


def _gpu(index: int) -> str:
    import torch

    free, total = torch.cuda.mem_get_info(index)
    return f"{torch.cuda.get_device_name(index)} ({free / 1e9:.1f} of {total / 1e9:.1f} GB free)"


def _meter() -> Section:
    """Start the meter as a run does, and ask it how each component is read."""
    from finetune.emissions.tracker import CodecarbonSource

    with tempfile.TemporaryDirectory() as folder:
        source = CodecarbonSource(Path(folder), "doctor", 100.0)  # energy alone is asked; no grams are computed
        components = source.start()
        notes = source.notes()
        source.stop()
    return {"components": [asdict(part) for part in components], "notes": list(notes)}


if __name__ == "__main__":
    main()
