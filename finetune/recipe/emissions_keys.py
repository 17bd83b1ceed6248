"""The `emissions` section: where the electricity comes from, how its use is measured, what stands beside it."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from finetune.recipe.kinds import Positive, Section, Text, Words

if TYPE_CHECKING:
    from finetune.recipe.schema import Recipe

KEY = "emissions"


class Emissions(Section):
    """Where the electricity comes from, and how its use is measured."""

    country_iso_code: Annotated[str, Field(pattern=r"^[A-Z]{3}$"), Words("three upper-case letters, as BRA")] | None = (
        Field(
            default=None,
            description=(
                "Country of the machine: three upper-case letters, ISO 3166 alpha-3. null: FINETUNE_COUNTRY, "
                "else inferred from the time zone."
            ),
            examples=["BRA"],
        )
    )
    region: Text | None = Field(
        default=None,
        description=(
            "State or province inside the country, by codecarbon's name, or a region of Google Cloud, which needs no "
            "country: gcp:europe-west1. null: FINETUNE_REGION."
        ),
        examples=["quebec"],
    )
    carbon_intensity_g_per_kwh: Positive | None = Field(
        default=None, description="Grid carbon intensity in g CO2e per kWh, if you know it; wins over the country."
    )
    measure_power_secs: Positive = Field(default=5.0, description="Seconds between two measurements of power.")
    pue: Annotated[float, Field(ge=1)] = Field(
        default=1.0, description="Power usage effectiveness of the building: total power over IT power."
    )
    wue: Annotated[float, Field(ge=0)] | None = Field(
        default=None, description="Water usage effectiveness of the building, in litres per kWh of IT energy."
    )
    embodied_kg: Positive | None = Field(
        default=None,
        description="kg CO2e that making one machine of the run took, from its maker; shown beside the emissions.",
    )
    embodied_lifetime_h: Positive | None = Field(
        default=None, description="Hours that the machine is expected to serve: the run bears its part of them."
    )
    embodied_share: Annotated[float, Field(gt=0, le=1)] = Field(
        default=1.0, description="Share of the machine that is reserved for the run, such as 0.25 for one GPU of four."
    )
    cpu_tdp_w: Positive | None = Field(
        default=None, description="Thermal design power of the processor in watts, when the tool does not know it."
    )
    max_energy_kwh: Positive | None = Field(
        default=None,
        description=(
            "Energy budget in kWh, PUE included: the run stops in time to evaluate and save within it. One that is too "
            "small for that is refused."
        ),
    )
    max_emissions_g: Positive | None = Field(
        default=None, description="Carbon budget in g CO2e: the run stops in time to evaluate and save within it."
    )
    max_g_per_point: Positive | None = Field(
        default=None,
        description=(
            "Stop when the best score rose by too little over the last two evaluations: more than so many g CO2e for "
            "each point (0.01) of the metric for the best model, which must have bounds, as accuracy has."
        ),
    )


def emissions_faults(recipe: "Recipe") -> Iterator[tuple[tuple[str, ...], str, tuple[tuple[str, ...], ...]]]:
    """Yield what the keys of the section must agree on: the key to blame, the fault, the keys also looked at."""
    given = recipe.emissions
    if given.region and ":" not in given.region and not given.country_iso_code:
        country = (KEY, "country_iso_code")
        yield (KEY, "region"), "a region needs its country; give emissions.country_iso_code too", (country,)
    figure, lifetime = (KEY, "embodied_kg"), (KEY, "embodied_lifetime_h")
    if given.embodied_kg is not None and given.embodied_lifetime_h is None:
        yield figure, "needs the hours that the machine will serve: emissions.embodied_lifetime_h", (lifetime,)
    if given.embodied_kg is None and given.embodied_lifetime_h is not None:
        yield lifetime, "has no effect without emissions.embodied_kg; give both", (figure,)
    if given.embodied_kg is None and given.embodied_share != 1:
        yield (KEY, "embodied_share"), "has no effect without emissions.embodied_kg; give both", (figure,)
