"""Small run records for tests, with only what the test is about."""

from pathlib import Path

from finetune.runs.record import Run

STORED = Path(__file__).parent.parent / "stored_runs"
QUICKSTART = STORED / "quickstart-20260901T120000Z-a1b2c3"
SCRATCH = STORED / "quickstart-scratch-20260901T120100Z-d4e5f6"

BANDS = {"cpu": (0.5, 2.0), "ram": (0.3, 2.0), "gpu": (0.9, 1.1)}
METHODS = {"cpu": "modelled", "ram": "assumed", "gpu": "measured"}


def make_run(run_id="a", accuracy=0.8, half_width=0.02, kwh=None, machine="boot-1", **fields):
    """Return a finished run; `kwh` is the energy of train by component, `half_width` that of the score's interval."""
    score = {"value": accuracy, "low": accuracy - half_width, "high": accuracy + half_width, "n": 500}
    fields.setdefault("emissions", make_emissions(kwh or {"cpu": 0.001, "ram": 0.002}, machine))
    fields.setdefault("metrics", {"test": {"accuracy": score}})
    fields.setdefault("main_metric", {"name": "accuracy", **score, "split": "test", "greater_is_better": True})
    fields.setdefault("dataset", {"path": "data.csv", "fingerprint": "f1"})
    fields.setdefault("hardware", {"threads": 2, "num_processes": 1})
    fields.setdefault("status", "completed")
    return Run(run_id=run_id, name=fields.pop("name", run_id), created_at="2026-01-01T00:00:00Z", **fields)


def make_emissions(kwh, machine="boot-1", duration_s=600.0, repeated_work_kwh=0.0, tdp_w=65.0, **fields):
    total = sum(kwh.values())
    low, high = (sum(value * BANDS[name][end] for name, value in kwh.items()) for end in (0, 1))
    components = {
        name: {
            "energy_kwh": value,
            "energy_kwh_low": value * BANDS[name][0],
            "energy_kwh_high": value * BANDS[name][1],
            "method": METHODS[name],
            "detail": f"CPU load model, TDP {tdp_w:g} W of a processor" if name == "cpu" else f"a {name}",
        }
        for name, value in kwh.items()
    }
    return {
        "energy_kwh": total,
        "emissions_g": total * 100,
        "duration_s": duration_s,
        "complete": True,
        "energy_kwh_low": low,
        "energy_kwh_high": high,
        "carbon_intensity": {"g_per_kwh": 100.0, "scope": "life-cycle", "location": "BRA", "known_from": "recipe"},
        "pue": 1.0,
        "components": components,
        "phases": {"train": {"energy_kwh": total, "duration_s": duration_s, "components": dict(kwh)}},
        "nodes": [{"node": 0, "hostname": "h", "boot_id": machine, "energy_kwh": total}],
        "repeated_work_kwh": repeated_work_kwh,
        "shared_with": [],
        "tool": {"name": "codecarbon", "version": "3.3.2"},
        **fields,
    }


def seeded(name, accuracies, kwh=1.0, rate=1e-4, seeds=(1, 2, 3), **fields):
    """Return runs of one recipe that differ in their seed; `kwh` is one number, or one a seed."""
    each = kwh if isinstance(kwh, list | tuple) else [kwh] * len(accuracies)
    return [
        make_run(
            f"{name}-{number}", accuracy, kwh=None if energy is None else {"gpu": energy}, name=name,
            recipe={"training": {"seed": seed, "learning_rate": rate}}, **fields,
        )
        for number, (seed, accuracy, energy) in enumerate(zip(seeds, accuracies, each, strict=False))
    ]  # fmt: skip
