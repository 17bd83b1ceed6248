"""How energy will be read, component by component, and which grid turns it into CO2e."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from finetune.doctor.check import FAIL, OK, WARN, Check
from finetune.emissions.host import is_virtual_machine
from finetune.emissions.intensity import COUNTRY_VARIABLE, REGION_VARIABLE, resolve_intensity, system_time_zone
from finetune.errors import FinetuneError
from finetune.recipe.emissions_keys import Emissions
from finetune.runs.formats import significant
from finetune.runs.report import scope_words
from finetune.text import join_words

_COUNTERS = "sys/class/powercap"
_TDP_HINT = "give the processor's thermal design power, from its data sheet: emissions.cpu_tdp_w"


def check_meter(meter: Mapping[str, Any], root: Path = Path("/")) -> list[Check]:
    """Turn the probe's `meter` section (or its `error`) into a check a component.

    `root` is where /sys and /proc are looked up for the remedy.
    """
    if "error" in meter:
        return [
            Check("energy", WARN, f"nothing can be read: {meter['error']}", "pip install --force-reinstall codecarbon")
        ]
    checks = [_component(part, root) for part in meter["components"]]
    return checks + [Check("meter", OK, note) for note in meter["notes"]]


def _component(part: Mapping[str, Any], root: Path) -> Check:
    name, method = f"energy of {part['name']}", part["method"]
    if method is None:
        return Check(name, WARN, f"cannot be read: {part['detail']}", _remedy(part["name"], root))
    if method == "absent":
        return Check(name, OK, part["detail"])
    band = "" if part["low"] == part["high"] else f"; band ×{part['low']:g} to ×{part['high']:g}"
    found = f"{method}: {part['detail']}{band}"
    if part["name"] == "cpu" and method != "measured":
        return Check(name, WARN, found, counter_remedy(root))
    return Check(name, OK, found)


def _remedy(component: str, root: Path) -> str:
    if component == "gpu":
        return "nvidia-smi must answer; in a container: --gpus all -e NVIDIA_DRIVER_CAPABILITIES=compute,utility"
    return counter_remedy(root) if component == "cpu" else "finetune show will tell the total as a lower bound"


def counter_remedy(root: Path = Path("/")) -> str:
    """Return what makes the processor's energy counter (RAPL) readable here, or what to do without one."""
    counters = sorted((root / _COUNTERS).glob("intel-rapl*/energy_uj"))
    if counters and not any(os.access(counter, os.R_OK) for counter in counters):
        # Only root may read them since CVE-2020-8694; the change lasts until the next start of the machine.
        return f"sudo chmod -R a+r /{_COUNTERS}/*   (until the next start; in a container: on its host)"
    if not (root / "proc").is_dir():
        return _TDP_HINT
    if is_virtual_machine(root):
        return f"A virtual machine has no energy counter. Run on the bare machine, or {_TDP_HINT}"
    if any((root / mark).exists() for mark in (".dockerenv", "run/.containerenv")):
        # Container runtimes hide the counters since GHSA-jq35-85cj-fj4p, whatever is mounted.
        return (
            f"Give the container the host's counter: docker run --security-opt systempaths=unconfined "
            f"-v /{_COUNTERS}:/{_COUNTERS}:ro (podman: --security-opt unmask=ALL), and on the host: "
            f"sudo chmod -R a+r /{_COUNTERS}/*"
        )
    return f"sudo modprobe intel_rapl_msr && sudo chmod -R a+r /{_COUNTERS}/*; where there is no counter, {_TDP_HINT}"


def check_place(country: str | None, environment: Mapping[str, str], root: Path = Path("/")) -> Check:
    """Tell which carbon intensity a recipe without a place of its own gets, and how the place is known."""
    try:
        intensity = resolve_intensity(Emissions(), country, None, environment, root)
    except FinetuneError as error:
        return Check("carbon intensity", FAIL, error.message, error.hint)
    data = ", ".join(str(part) for part in (intensity.year, scope_words(intensity.scope), intensity.source) if part)
    value = f"{significant(intensity.g_per_kwh)} g/kWh (data: {data})"
    if intensity.known_from == "assumed":
        return Check(
            "carbon intensity",
            WARN,
            f"world average, {value}: the place is not known",
            "export FINETUNE_COUNTRY=BRA (your country, ISO 3166 alpha-3), or emissions.country_iso_code in the recipe",
        )
    if intensity.known_from == "inferred":
        zone = system_time_zone(environment, root)
        known = f"inferred from the time zone {zone}; FINETUNE_COUNTRY or --country says otherwise"
    else:
        stated = join_words([name for name in (COUNTRY_VARIABLE, REGION_VARIABLE) if environment.get(name)], "and")
        known = {"environment": f"from {stated}"}.get(intensity.known_from, f"from the {intensity.known_from}")
    return Check("carbon intensity", OK, f"{intensity.location}, {value}, {known}")


def check_codecarbon_settings(home: Path, here: Path, environment: Mapping[str, str]) -> Check:
    """Look for settings of codecarbon, which finetune overrides one and all."""
    files = [str(folder / ".codecarbon.config") for folder in dict.fromkeys((home, here))]
    found: Sequence[str] = [
        *(name for name in files if Path(name).is_file()),
        *sorted(name for name in environment if name.startswith("CODECARBON_")),
    ]
    if not found:
        return Check("codecarbon settings", OK, "none")
    return Check(
        "codecarbon settings", OK, f"{join_words(found, 'and')}: ignored, the recipe's emissions section counts"
    )
