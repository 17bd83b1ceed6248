"""All checks, in the order in which they are shown."""

from __future__ import annotations

import os
from pathlib import Path

from finetune.data.token_cache import cache_directory
from finetune.doctor.check import Check
from finetune.doctor.energy import check_codecarbon_settings, check_meter, check_place
from finetune.doctor.hardware import check_allocation, check_gpus, check_memory, check_torch
from finetune.doctor.hub import check_hub, check_token
from finetune.doctor.probe import ask_probe
from finetune.doctor.software import (
    check_folder,
    check_installation,
    check_other_runs,
    check_quickstart,
    lacks_libraries,
)
from finetune.emissions.gpus import nvidia_gpus


def examine(country: str | None, output_dir: Path, offline: bool) -> list[Check]:
    """Look at everything that a run depends on; only at the libraries when one of them is missing."""
    checks = check_installation()
    if lacks_libraries(checks):
        return checks
    from huggingface_hub import constants, get_token

    probed = ask_probe()
    return [
        *checks,
        check_quickstart(),
        *check_torch(probed["torch"]),
        check_memory(),
        check_gpus(nvidia_gpus(), os.environ),
        check_allocation(os.environ),
        check_folder("runs folder", output_dir),
        check_folder("cache", cache_directory()),
        check_folder("hub cache", Path(constants.HF_HUB_CACHE)),
        *check_meter(probed["meter"]),
        check_place(country, os.environ),
        check_codecarbon_settings(Path.home(), Path.cwd(), os.environ),
        check_hub(constants.ENDPOINT, offline or constants.is_offline_mode()),
        check_token(get_token()),
        check_other_runs(output_dir),
    ]
