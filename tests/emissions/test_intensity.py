import os

import pytest

from finetune.emissions import tables
from finetune.emissions.intensity import (
    country_of_time_zone,
    grid_intensity,
    resolve_intensity,
    system_time_zone,
)
from finetune.errors import FinetuneError


def resolve(settings, country=None, region=None, root="/nowhere", **environment):
    from pathlib import Path

    return resolve_intensity(settings, country, region, environment, Path(root))


def test_intensity_takes_the_users_figure_first(settings):
    found = resolve(settings("FRA", "x", 123.0), "BRA", "y", TZ="Europe/Paris", FINETUNE_COUNTRY="USA")
    assert (found.g_per_kwh, found.known_from, found.scope, found.location) == (123.0, "recipe", "as given", "BRA")


@pytest.mark.parametrize(
    ("recipe", "line", "environment", "location", "known_from"),
    [
        ({"country_iso_code": "FRA"}, {"country": "BRA"}, {"FINETUNE_COUNTRY": "USA"}, "BRA", "command line"),
        ({"country_iso_code": "FRA"}, {}, {"FINETUNE_COUNTRY": "USA"}, "FRA", "recipe"),
        ({}, {}, {"FINETUNE_COUNTRY": "USA", "TZ": "Europe/Paris"}, "USA", "environment"),
        # A loader may have filled the recipe from the environment already.
        ({"country_iso_code": "USA"}, {}, {"FINETUNE_COUNTRY": "USA"}, "USA", "environment"),
        ({}, {}, {"TZ": "America/Sao_Paulo"}, "BRA", "inferred"),
        ({}, {}, {"TZ": "UTC"}, None, "assumed"),
        ({}, {}, {}, None, "assumed"),
        ({"country_iso_code": "USA", "region": "vermont"}, {}, {}, "USA/vermont", "recipe"),
        ({"country_iso_code": "USA", "region": "vermont"}, {"region": "CA"}, {}, "USA/california", "recipe"),
        # The recipe's region belongs to the recipe's country.
        ({"country_iso_code": "USA", "region": "vermont"}, {"country": "FRA"}, {}, "FRA", "command line"),
        ({"country_iso_code": "USA", "region": "vermont"}, {"country": "usa"}, {}, "USA/vermont", "command line"),
        ({}, {}, {"FINETUNE_COUNTRY": "CAN", "FINETUNE_REGION": "Québec"}, "CAN/quebec", "environment"),
    ],
)
def test_intensity_precedence(settings, recipe, line, environment, location, known_from):
    found = resolve(settings(**recipe), line.get("country"), line.get("region"), **environment)
    assert (found.location, found.known_from) == (location, known_from)


def test_intensity_of_an_unknown_place_is_the_world_average_with_a_band(settings):
    found = resolve(settings(), TZ="Etc/GMT+3")
    assert found.g_per_kwh == 475
    assert "IEA" in found.source
    values = sorted(row.g_per_kwh for row in tables.country_intensities().values())
    assert values[0] < found.g_per_kwh_low < 60 < 600 < found.g_per_kwh_high < values[-1]


@pytest.mark.parametrize(
    ("country", "said"),
    [
        ("BR", "BRA (Brazil)"),
        ("UK", "alpha-3"),
        ("GB", "GBR"),
        ("Brazil", "BRA"),
        ("Brasil", "BRA"),
        ("germany", "DEU"),
        ("XXX", "alpha-3"),
        ("", "alpha-3"),
        ("CAF", "0 g/kWh"),
    ],
)
def test_intensity_refuses_a_country_it_does_not_have(settings, country, said):
    with pytest.raises(FinetuneError) as refused:
        resolve(settings(), country)
    assert said in refused.value.message + refused.value.hint
    assert "carbon_intensity_g_per_kwh" in refused.value.hint
    assert "--country" in refused.value.message


def test_intensity_error_names_where_the_country_was_stated(settings):
    with pytest.raises(FinetuneError, match="FINETUNE_COUNTRY QQQ"):
        resolve(settings(), FINETUNE_COUNTRY="QQQ")
    with pytest.raises(FinetuneError, match=r"emissions\.country_iso_code QQQ"):
        resolve(settings("QQQ"))


def test_intensity_refuses_a_region_it_does_not_have(settings):
    with pytest.raises(FinetuneError) as refused:
        resolve(settings(), "USA", "vermnt")
    assert "Did you mean vermont?" in refused.value.hint
    with pytest.raises(FinetuneError, match="without its country"):
        resolve(settings(region="vermont"))
    with pytest.raises(FinetuneError) as refused:
        resolve(settings(), "BRA", "sao paulo")
    assert "Leave the region out" in refused.value.hint


@pytest.mark.parametrize(
    ("country", "region", "grams", "scope"),
    [
        ("USA", "Vermont", 23.7, "direct"),
        ("USA", "US-WV", 893.0, "direct"),
        ("USA", "New York", None, "direct"),
        ("CAN", "Quebec", 3.94, "direct"),
        ("CAN", "alberta", 628.0, "direct"),
        ("SWE", "se1", 25.9, "life-cycle"),
        ("CHN", "Beijing", 555.4, "CO2-only"),
        ("CHN", "CN-NM", 647.9, "CO2-only"),
    ],
)
def test_intensity_of_a_region_carries_its_own_scope(settings, country, region, grams, scope):
    found = resolve(settings(), country, region)
    assert found.scope == scope
    assert found.g_per_kwh > 0
    if grams is not None:
        assert found.g_per_kwh == pytest.approx(grams, rel=0.01)
    assert found.year


@pytest.mark.parametrize(
    ("zone", "country"),
    [
        ("America/Sao_Paulo", "BRA"),
        ("Europe/Oslo", "NOR"),
        ("Europe/Berlin", "DEU"),
        ("Asia/Kolkata", "IND"),
        ("US/Eastern", "USA"),
        ("Brazil/East", "BRA"),
        ("UTC", None),
        ("Etc/UTC", None),
        ("EST5EDT4", None),
        ("", None),
        (None, None),
    ],
)
def test_intensity_country_of_time_zone(zone, country):
    assert country_of_time_zone(zone) == country


def test_intensity_time_zone_without_data_is_not_an_error(settings):
    assert resolve(settings(), TZ="Antarctica/Troll").known_from == "assumed"
    assert resolve(settings(), TZ="Africa/Bangui").known_from == "assumed"  # the table says 0 there


def test_intensity_system_time_zone_is_found_in_its_usual_places(tmp_path):
    assert system_time_zone({}, tmp_path) is None
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/timezone").write_text("Asia/Tokyo\n")
    assert system_time_zone({}, tmp_path) == "Asia/Tokyo"
    os.symlink("../usr/share/zoneinfo/Europe/Oslo", tmp_path / "etc/localtime")
    assert system_time_zone({}, tmp_path) == "Europe/Oslo"
    assert system_time_zone({"TZ": ":America/Lima"}, tmp_path) == "America/Lima"
    assert system_time_zone({"TZ": ":/usr/share/zoneinfo/America/Lima"}, tmp_path) == "America/Lima"


def test_grid_intensity_takes_codes_regions_and_grams():
    assert grid_intensity("BRA").g_per_kwh == pytest.approx(98.348)
    assert grid_intensity("USA/vermont").location == "USA/vermont"
    assert grid_intensity("1000").g_per_kwh == 1000
    with pytest.raises(FinetuneError, match="--grid BR"):
        grid_intensity("BR")
    for wrong in ("0", "-5", "nan", "inf"):
        with pytest.raises(FinetuneError, match="above 0"):
            grid_intensity(wrong)


def test_intensity_is_read_without_heavy_imports():
    import subprocess
    import sys

    script = (
        "import sys; from finetune.emissions.intensity import grid_intensity; grid_intensity('BRA'); "
        "import finetune.emissions.meter, finetune.emissions.tracker; "
        "print([m for m in ('codecarbon', 'pandas', 'numpy', 'torch', 'pycountry', 'pydantic', 'psutil', 'pynvml') "
        "if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout == "[]\n"


@pytest.mark.parametrize(
    ("recipe", "line", "environment", "location", "known_from"),
    [
        ({"region": "gcp:europe-west1"}, {}, {}, "BEL/gcp:europe-west1", "recipe"),
        ({"region": "GCP:Europe-West1"}, {}, {}, "BEL/gcp:europe-west1", "recipe"),
        ({"country_iso_code": "BEL", "region": "gcp:europe-west1"}, {}, {}, "BEL/gcp:europe-west1", "recipe"),
        ({"region": "gcp:europe-west1"}, {}, {"FINETUNE_COUNTRY": "BRA"}, "BEL/gcp:europe-west1", "recipe"),
        # A loader may have filled the recipe's country from the environment already.
        ({"country_iso_code": "BRA", "region": "gcp:europe-west1"}, {}, {"FINETUNE_COUNTRY": "BRA"},
         "BEL/gcp:europe-west1", "recipe"),
        ({"country_iso_code": "FRA"}, {"region": "gcp:us-central1"}, {}, "USA/gcp:us-central1", "command line"),
        ({}, {"country": "BRA", "region": "gcp:southamerica-east1"}, {}, "BRA/gcp:southamerica-east1", "command line"),
        ({}, {}, {"FINETUNE_REGION": "gcp:europe-west9"}, "FRA/gcp:europe-west9", "environment"),
        ({"region": "gcp:europe-west9"}, {}, {"FINETUNE_REGION": "gcp:europe-west9"}, "FRA/gcp:europe-west9",
         "environment"),
        ({}, {"region": "gcp:me-central1"}, {}, "QAT/gcp:me-central1", "command line"),
    ],
)  # fmt: skip
def test_intensity_of_a_cloud_region(settings, recipe, line, environment, location, known_from):
    found = resolve(settings(**recipe), line.get("country"), line.get("region"), **environment)
    assert (found.location, found.known_from) == (location, known_from)
    assert (found.year, found.scope) == (2023, "operational")
    assert "Google" in found.source
    assert found.g_per_kwh == tables.cloud_regions()[location.partition("/")[2]][1].g_per_kwh > 0


@pytest.mark.parametrize(
    ("region", "country", "said"),
    [
        ("aws:eu-west-1", None, "Google Cloud (gcp:) and of no other cloud"),
        ("azure:westeurope", None, "Give the country in which the region lies"),
        ("gcp:europe-wset1", None, "Did you mean gcp:europe-west1?"),
        ("gcp:", None, "Known regions: gcp:africa-south1"),
        ("gcp:europe-west1", "FRA", "lies in BEL, and FRA is given"),
    ],
)
def test_intensity_refuses_a_cloud_region_it_does_not_have(settings, region, country, said):
    with pytest.raises(FinetuneError) as refused:
        resolve(settings(), country, region)
    assert said in refused.value.message + refused.value.hint
    if country is None:
        assert "carbon_intensity_g_per_kwh" in refused.value.hint


def test_intensity_of_a_country_on_the_command_line_leaves_the_recipes_cloud_region_aside(settings):
    assert resolve(settings(region="gcp:europe-west1"), "FRA").location == "FRA"


def test_intensity_of_ones_own_figure_needs_no_cloud_region_to_be_known(settings):
    found = resolve(settings(region="aws:eu-west-1", carbon_intensity_g_per_kwh=300.0))
    assert (found.g_per_kwh, found.known_from) == (300.0, "recipe")


def test_grid_intensity_takes_cloud_regions():
    assert grid_intensity("gcp:europe-west1") == grid_intensity("BEL/gcp:europe-west1")
    assert grid_intensity("gcp:europe-west1").g_per_kwh == 122
    with pytest.raises(FinetuneError, match="lies in BEL"):
        grid_intensity("FRA/gcp:europe-west1")
