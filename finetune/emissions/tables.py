"""The tables of carbon intensity that codecarbon ships, read from its files without importing it.

Several methods are mixed in them (life-cycle, direct, operational, CO2-only, not stated): each entry says which, with
source and year.
"""

import csv
import importlib.util
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from finetune.errors import FinetuneError

LB_PER_MWH_IN_G_PER_KWH = 0.45359237


@dataclass(frozen=True)
class GridEntry:
    """One row of an intensity table: grams of CO2e per kWh, what they cover, and the names of the place."""

    g_per_kwh: float
    source: str
    year: int | None
    scope: str
    names: tuple[str, ...]

    @property
    def name(self) -> str:
        """The first of the names."""
        return self.names[0]


def package_folder(package: str) -> Path | None:
    """Return where a package is installed, without importing it, or None."""
    spec = importlib.util.find_spec(package)
    locations = list(spec.submodule_search_locations or []) if spec else []
    return Path(locations[0]) if locations else None


@cache
def country_intensities() -> dict[str, GridEntry]:
    """Return codecarbon's country table by alpha-3 code: life-cycle figures of Our World in Data, after Ember."""
    return {
        code: GridEntry(
            row["carbon_intensity"],
            "Our World in Data / Ember, shipped with codecarbon",
            row["year"],
            "life-cycle",
            (row["country_name"],),
        )
        for code, row in _table("global_energy_mix.json").items()
    }


@cache
def world_intensity() -> GridEntry:
    """Return the world average that codecarbon ships; its file names the report of 2019 and no year of the data."""
    value = _table("carbon_intensity_per_source.json")["world_average"]
    source = "IEA, Global Energy & CO2 Status Report 2019, shipped with codecarbon"
    return GridEntry(value, source, 2019, "not stated", ("world average",))


@cache
def region_intensities(country: str) -> tuple[GridEntry, ...]:
    """Return the regions that codecarbon has inside a country: USA, CAN, CHN, and the zones of SWE, NOR and FIN."""
    if country == "USA":
        source, scope = "EPA eGRID2023, shipped with codecarbon", "direct"
        states = {name: row for name, row in _table("2023/usa_emissions.json").items() if not name.startswith("_")}
        return tuple(
            GridEntry(row["emissions"] * LB_PER_MWH_IN_G_PER_KWH, source, 2023, scope, (name, row["regionCode"]))
            for name, row in states.items()
            if name != "usa"
        )
    if country == "CAN":
        # Direct emissions of the burnt fuels only, with codecarbon's factors; water, wind and uranium count as 0.
        factors = {"coal": 995.725971, "petroleum": 816.6885263, "naturalGas": 743.8415916}
        source = "fuel mix of the province, fossil fuels only, shipped with codecarbon"
        return tuple(
            GridEntry(sum(mix[fuel] * g for fuel, g in factors.items()) / mix["total"], source, 2023, "direct", (name,))
            for name, mix in _table("2023/canada_energy_mix.json").items()
        )
    if country == "CHN":
        source, rows = "MEE/NBS of China, 2023, shipped with codecarbon", _table("2023/china_provincial_emissions.json")
        return tuple(
            GridEntry(row["emission_factor"], source, row["year"], "CO2-only", (*row["names"], code))
            for code, row in rows["data"].items()
        )
    prefix = {"SWE": "SE", "NOR": "NO", "FIN": "FI"}.get(country)
    if prefix is None:
        return ()
    source = "ENTSO-E generation mix of the bidding zone, shipped with codecarbon"
    return tuple(
        GridEntry(row["emission_factor"], source, row.get("year"), "life-cycle", (zone,))
        for zone, row in _table("nordic_emissions.json")["data"].items()
        if zone.startswith(prefix)
    )


@cache
def cloud_regions() -> dict[str, tuple[str, GridEntry]]:
    """Return the cloud regions that codecarbon has, as provider:region: the alpha-3 code of the country, and the entry.

    Only Google Cloud's: what it publishes as grid carbon intensity, "average operational gross emissions" by location.
    The file names no year; its figures are those of Google's file for 2023 (GoogleCloudPlatform/region-carbon-info).
    """
    source = "Google Cloud, region carbon data, shipped with codecarbon"
    corrected = {"me-cenrtal1": "me-central1"}
    found = {}
    for row in csv.DictReader(_text("cloud/impact.csv").splitlines()):
        name = f"{row['provider']}:{corrected.get(row['region'], row['region'])}"
        found[name] = row["countryIsoCode"], GridEntry(float(row["impact"]), source, 2023, "operational", (name,))
    return found


@cache
def _table(name: str) -> dict[str, Any]:
    table: dict[str, Any] = json.loads(_text(f"private_infra/{name}"))
    return table


def _text(name: str) -> str:
    folder = package_folder("codecarbon")
    path = folder / "data" / name if folder else None
    if path is None or not path.is_file():
        raise FinetuneError(
            f"the table of carbon intensities {name} is not there",
            "Install codecarbon: pip install 'codecarbon>=3.3.2,<3.4'",
        )
    return path.read_text(encoding="utf-8-sig")
