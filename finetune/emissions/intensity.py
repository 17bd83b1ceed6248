"""Where the carbon intensity of the grid comes from: resolved once, kept with its value, source, year and scope."""

import json
import os
import unicodedata
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, Protocol

from finetune.emissions import tables
from finetune.errors import FinetuneError
from finetune.text import did_you_mean, join_words

COUNTRY_VARIABLE = "FINETUNE_COUNTRY"
REGION_VARIABLE = "FINETUNE_REGION"


@dataclass(frozen=True)
class Intensity:
    """Grams of CO2e per kWh from the grid, and how that is known.

    `scope` says what the figure covers (life-cycle, direct, CO2-only …; never compare across scopes), `location` is
    an ISO 3166 alpha-3 code, with "/region" where a region was used (also of a cloud: BEL/gcp:europe-west1), and
    `known_from` one of command line, recipe, environment, inferred (time zone) or assumed (world average). An assumed
    place carries the 5th and 95th percentile of the country table as its band.
    """

    g_per_kwh: float
    source: str
    year: int | None
    scope: str
    location: str | None
    known_from: str
    g_per_kwh_low: float | None = None
    g_per_kwh_high: float | None = None

    def lowest(self) -> float:
        """Return the lower end of the band, the value itself where the place is known."""
        return self.g_per_kwh if self.g_per_kwh_low is None else self.g_per_kwh_low

    def highest(self) -> float:
        """Return the upper end of the band, the value itself where the place is known."""
        return self.g_per_kwh if self.g_per_kwh_high is None else self.g_per_kwh_high

    def as_dict(self) -> dict[str, Any]:
        """Return the `carbon_intensity` entry of the run record."""
        return asdict(self)


class Place(Protocol):
    """What the recipe says about the place of the machine."""

    @property
    def country_iso_code(self) -> str | None:
        """ISO 3166 alpha-3."""

    @property
    def region(self) -> str | None:
        """State, province or zone inside the country, or provider:region of a cloud, which needs no country."""

    @property
    def carbon_intensity_g_per_kwh(self) -> float | None:
        """The user's own figure."""


def resolve_intensity(
    settings: Place,
    country: str | None = None,
    region: str | None = None,
    environment: Mapping[str, str] | None = None,
    root: Path = Path("/"),
) -> Intensity:
    """Return the intensity of the machine's grid.

    The user's own figure wins; then region, then country, each from the command line (`country`, `region`), else the
    recipe, else FINETUNE_COUNTRY and FINETUNE_REGION; then the country of the system's time zone; then the world
    average. `root` is where /etc is looked up. Raises FinetuneError for a place that the tables do not have.
    """
    environment = os.environ if environment is None else environment
    code, zone, known_from = _stated_place(settings, country, region, environment)
    if settings.carbon_intensity_g_per_kwh is not None:
        return Intensity(settings.carbon_intensity_g_per_kwh, "given by the user", None, "as given", code, "recipe")
    if zone is not None and is_cloud_region(zone):
        return _of_cloud(zone, code, known_from)
    if code is not None:
        named = {"command line": "--country", "recipe": "emissions.country_iso_code"}.get(known_from, COUNTRY_VARIABLE)
        return _of_place(code, zone, known_from, named)
    if zone is not None:
        raise FinetuneError(
            f"a region ({zone}) is given without its country",
            "Name the country too: --country or emissions.country_iso_code, three letters, for example CAN.",
        )
    inferred = country_of_time_zone(system_time_zone(environment, root))
    if inferred is not None and _usable(inferred):
        return _of_place(inferred, None, "inferred", "the time zone")
    return _world_average()


def grid_intensity(code: str) -> Intensity:
    """Return the intensity of a grid to compare runs on: an alpha-3 code, code/region, gcp:region, or grams per kWh.

    Raises FinetuneError when the tables do not have it.
    """
    try:
        value = float(code)
    except ValueError:
        country, _, region = code.partition("/")
        if is_cloud_region(region or country):
            return _of_cloud(region or country, country if region else None, "command line")
        return _of_place(country, region or None, "command line", "--grid")
    if not 0 < value < 100_000:
        raise FinetuneError(
            f"--grid {code}: grams of CO2e per kWh must be above 0", "For example --grid BRA or --grid 100."
        )
    return Intensity(value, "given by the user", None, "as given", None, "command line")


def is_cloud_region(region: str) -> bool:
    """Tell whether a region is one of a cloud: provider:region, as gcp:europe-west1."""
    return ":" in region


def system_time_zone(environment: Mapping[str, str], root: Path = Path("/")) -> str | None:
    """Return the name of the system's time zone (TZ, /etc/localtime, /etc/timezone), or None."""
    stated = environment.get("TZ", "").removeprefix(":").strip()
    if stated:
        return stated.partition("zoneinfo/")[2] or stated
    link = root / "etc/localtime"
    if link.is_symlink():
        # One step only: following on would turn a link such as Europe/Oslo into the zone that it shares rules with.
        name = os.readlink(link).partition("zoneinfo/")[2]
        if name:
            return name
    try:
        return (root / "etc/timezone").read_text(encoding="utf-8").strip() or None
    except (OSError, UnicodeDecodeError):
        return None


def country_of_time_zone(name: str | None) -> str | None:
    """Return the alpha-3 code of the country that a tz database zone names; None for UTC and other placeless zones."""
    table = _zone_countries()
    alpha_2 = table.get(name or "") or table.get(_zone_links().get(name or "", ""))
    return _alpha_3().get(alpha_2) if alpha_2 else None


def _stated_place(
    settings: Place, country: str | None, region: str | None, environment: Mapping[str, str]
) -> tuple[str | None, str | None, str]:
    """Return country, region and where they are known from; a region belongs to the country of its own source."""
    in_environment = environment.get(COUNTRY_VARIABLE) or None
    recipe_country, recipe_region = settings.country_iso_code, settings.region
    if country is not None:
        same = recipe_country is None or recipe_country.upper() == country.upper()
        return country, region or (recipe_region if same and not _is_cloud(recipe_region) else None), "command line"
    if _is_cloud(region):
        return None, region, "command line"
    if _is_cloud(recipe_region) and recipe_region != environment.get(REGION_VARIABLE):
        # It names its own country, which only the recipe itself can contradict.
        return None if recipe_country == in_environment else recipe_country, recipe_region, "recipe"
    if recipe_country is not None:
        # A loader that fills the recipe from the environment leaves the two equal.
        known_from = "environment" if recipe_country == in_environment else "recipe"
        return recipe_country, region or recipe_region, known_from
    zone = region or recipe_region or environment.get(REGION_VARIABLE) or None
    return in_environment, zone, "environment"


def _of_place(code: str, region: str | None, known_from: str, named: str) -> Intensity:
    country = _known_country(code, named)
    if region is None:
        entry = tables.country_intensities()[country]
        return Intensity(entry.g_per_kwh, entry.source, entry.year, entry.scope, country, known_from)
    regions = tables.region_intensities(country)
    names = {_folded(name): entry for entry in regions for name in entry.names}
    found = names.get(_folded(region)) or names.get(_folded(region.removeprefix(f"{_alpha_2(country)}-")))
    if found is None:
        near = did_you_mean(_folded(region), names)
        listed = join_words(sorted(entry.names[0] for entry in regions), "and")
        raise FinetuneError(
            f"region {region}: there is no figure for it inside {country}",
            (f"Did you mean {near}? " if near else "")
            + (f"Known regions of {country}: {listed}." if regions else "Leave the region out: the country is used."),
        )
    return Intensity(found.g_per_kwh, found.source, found.year, found.scope, f"{country}/{found.names[0]}", known_from)


def _is_cloud(region: str | None) -> bool:
    return region is not None and is_cloud_region(region)


def _of_cloud(region: str, country: str | None, known_from: str) -> Intensity:
    table = tables.cloud_regions()
    name = region.strip().lower()
    provider = name.partition(":")[0]
    if name not in table:
        own = "or your own figure: emissions.carbon_intensity_g_per_kwh=<grams of CO2e per kWh>."
        if not any(known.startswith(f"{provider}:") for known in table):
            raise FinetuneError(
                f"region {region}: there are figures for the regions of Google Cloud (gcp:) and of no other cloud",
                f"Give the country in which the region lies, such as --country IRL, {own}",
            )
        near = did_you_mean(name, table)
        raise FinetuneError(
            f"region {region}: there is no figure for it",
            (f"Did you mean {near}? " if near else "") + f"Known regions: {join_words(sorted(table), 'and')}; {own}",
        )
    lies_in, entry = table[name]
    if country is not None and country.upper() != lies_in:
        raise FinetuneError(
            f"region {region} lies in {lies_in}, and {country} is given as the country", "Leave the country out."
        )
    location = f"{lies_in}/{entry.name}"
    return Intensity(entry.g_per_kwh, entry.source, entry.year, entry.scope, location, known_from)


def _known_country(code: str, named: str) -> str:
    table = tables.country_intensities()
    country = code.strip().upper()
    if _usable(country):
        return country
    own_figure = "Or give your own figure: emissions.carbon_intensity_g_per_kwh=<grams of CO2e per kWh>."
    if country in table:
        raise FinetuneError(
            f"{named} {code}: the table says {table[country].g_per_kwh:g} g/kWh for {table[country].name}, "
            "which cannot be right",
            "Name a country with a similar grid. " + own_figure,
        )
    suggestion = _alpha_3().get(country) or _code_named(code)
    if suggestion in table:
        hint = f"Did you mean {suggestion} ({table[suggestion].name})? {own_figure}"
    else:
        hint = f"For example BRA, USA or FRA. {own_figure}"
    raise FinetuneError(f"{named} {code}: expected an ISO 3166 alpha-3 code that the intensity table has", hint)


def _code_named(text: str) -> str | None:
    table = tables.country_intensities()
    by_name = {_folded(entry.name): code for code, entry in table.items()}
    near = did_you_mean(_folded(text), [*by_name, *(code.lower() for code in table)])
    return (by_name.get(near) or near.upper()) if near else None


def _usable(country: str) -> bool:
    entry = tables.country_intensities().get(country)
    return entry is not None and entry.g_per_kwh > 0


def _world_average() -> Intensity:
    world = tables.world_intensity()
    values = sorted(entry.g_per_kwh for entry in tables.country_intensities().values() if entry.g_per_kwh > 0)
    low, high = (values[round(share * (len(values) - 1))] for share in (0.05, 0.95))
    return Intensity(world.g_per_kwh, world.source, world.year, world.scope, None, "assumed", low, high)


def _folded(name: str) -> str:
    plain = unicodedata.normalize("NFKD", name.strip().lower())
    return " ".join("".join(letter for letter in plain if not unicodedata.combining(letter)).replace("_", " ").split())


@cache
def _alpha_3() -> dict[str, str]:
    folder = tables.package_folder("pycountry")
    if folder is None:
        return {}
    path = folder / "databases" / "iso3166-1.json"
    return {entry["alpha_2"]: entry["alpha_3"] for entry in json.loads(path.read_text(encoding="utf-8"))["3166-1"]}


def _alpha_2(country: str) -> str | None:
    return next((short for short, long in _alpha_3().items() if long == country), None)


def _zone_file(name: str) -> list[str]:
    # The system's own tables where they are, else those of the tzdata package (a slim container has neither zone).
    package = tables.package_folder("tzdata")
    for folder in (Path("/usr/share/zoneinfo"), *([package / "zoneinfo"] if package else [])):
        path = folder / name
        if path.is_file():
            return path.read_text(encoding="utf-8").splitlines()
    return []


@cache
def _zone_countries() -> dict[str, str]:
    rows = (line.split("\t") for line in _zone_file("zone.tab") if line and not line.startswith("#"))
    return {row[2]: row[0] for row in rows}


@cache
def _zone_links() -> dict[str, str]:
    rows = (line.split() for line in _zone_file("tzdata.zi") if line.startswith("L "))
    return {row[2]: row[1] for row in rows}
