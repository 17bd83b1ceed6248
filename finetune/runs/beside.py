"""What `show` and the model card say beside a run's emissions: what measuring took, water, making, SCI, an answer."""

from collections.abc import Mapping
from typing import Any

from finetune.runs import formats
from finetune.runs.break_even import prompted_lines
from finetune.runs.record import Run, as_mapping, as_number

NO_SCI = "not computed: it needs embodied emissions (emissions.embodied_kg)"


def beside_lines(run: Run) -> dict[str, str]:
    """Return what stands beside the total, by name, in words; what nobody stated is left out."""
    found = {
        "measuring": overhead_words(run),
        "answers": answer_words(run),
        **prompted_lines(run),
        "water": _water(run),
        "embodied": _embodied(run),
        "SCI": _sci(run),
    }
    return {name: words for name, words in found.items() if words}


def overhead_words(run: Run) -> str:
    """Return the time that measuring took: seconds and share of the run, the one start of the meter apart."""
    seconds, percent = (as_number(run.emissions.get(f"tracking_overhead_{unit}")) for unit in ("s", "percent"))
    if seconds is None:
        return ""
    start_up_s = as_number(run.emissions.get("start_up_s"))
    share = f", {formats.significant(percent, 2)} % of the run" if percent is not None else ""
    apart = f"; starting it took {formats.duration(start_up_s)}, which is not in the run's time" if start_up_s else ""
    return f"took {formats.significant(seconds, 2)} s{share}{apart}"


def answer_words(run: Run) -> str:
    """Return the energy of 1,000 predictions and what it was measured with; empty when it was not."""
    value, stated = run.wh_per_1000_predictions(), as_mapping(run.emissions.get("inference"))
    if value is None:
        return ""
    rows, seconds, batch, length = (
        as_number(stated.get(name)) for name in ("rows", "duration_s", "batch_size", "mean_length_tokens")
    )
    how = [
        f"{rows:,.0f} rows of {stated.get('split')}" if rows is not None else "",
        f"in {formats.duration(seconds)}" if seconds is not None else "",
        f"batches of {batch:.0f}" if batch is not None else "",
        f"mean length {formats.significant(length)} tokens" if length is not None else "",
    ]
    words = ", ".join(part for part in how if part)
    return f"{formats.significant(value)} Wh for 1,000 predictions" + (f" ({words})" if words else "")


def _water(run: Run) -> str:
    litres, wue = as_number(run.emissions.get("water_l")), as_number(_stated(run).get("wue"))
    if litres is None:
        return ""
    how = f" ({formats.significant(wue)} L/kWh × IT energy)" if wue is not None else ""
    return f"{_at_least(run)}{formats.significant(litres)} L{how}"


def _embodied(run: Run) -> str:
    grams, stated = as_number(run.emissions.get("embodied_g")), _stated(run)
    if grams is None:
        return ""
    kg, hours, share = (as_number(stated.get(f"embodied_{name}")) for name in ("kg", "lifetime_h", "share"))
    how = ""
    if kg is not None and hours is not None and share is not None:
        how = (
            f" ({formats.significant(kg)} kg over {hours:,.0f} h, {100 * share:g} % of the machine, given by the user)"
        )
    return f"{formats.grams(grams)} CO2e{how}, not in the total"


def _sci(run: Run) -> str:
    operational, made, score = (
        as_number(run.emissions.get(name)) for name in ("emissions_g", "embodied_g", "sci_g_per_run")
    )
    if operational is None or "sci_g_per_run" not in run.emissions:  # an older record does not know the score
        return ""
    if score is None or made is None:
        return NO_SCI
    parts = f"{formats.grams(operational)} operational + {formats.grams(made)} embodied"
    return f"{_at_least(run)}{formats.grams(score)} CO2e per training run ({parts}; ISO/IEC 21031:2024)"


def _stated(run: Run) -> Mapping[str, Any]:
    return as_mapping(run.recipe.get("emissions"))


def _at_least(run: Run) -> str:
    return "" if run.is_complete else "at least "
