"""What a probe of a small recipe answers, with round numbers."""

import pytest

TOOL = {"name": "codecarbon", "version": "3.3.2"}


def emissions(**changes):
    """Return an `emissions` section: a processor with a band of 0.5 to 2 and memory of 0.3 to 2, a Wh each in train."""
    section = {
        "energy_kwh": 0.002,
        "duration_s": 100.0,
        "complete": True,
        "pue": 1.0,
        "carbon_intensity": {
            "g_per_kwh": 100.0, "source": "a table", "year": 2023, "scope": "life-cycle", "location": "BRA",
            "known_from": "recipe", "g_per_kwh_low": None, "g_per_kwh_high": None,
        },
        "components": {
            "cpu": {"energy_kwh": 0.001, "energy_kwh_low": 0.0005, "energy_kwh_high": 0.002,
                    "method": "modelled", "detail": "CPU load model"},
            "gpu": {"energy_kwh": None, "energy_kwh_low": None, "energy_kwh_high": None,
                    "method": "absent", "detail": "no GPU was found"},
            "ram": {"energy_kwh": 0.001, "energy_kwh_low": 0.0003, "energy_kwh_high": 0.002,
                    "method": "assumed", "detail": "memory constant"},
        },
        "phases": {
            "load": {"energy_kwh": 0.0001, "duration_s": 4.0, "components": {"cpu": 0.00005, "ram": 0.00005}},
            "preprocess": {"energy_kwh": 0.00001, "duration_s": 1.0, "components": {"cpu": 0.0, "ram": 0.00001}},
            "train": {"energy_kwh": 0.002, "duration_s": 90.0, "components": {"cpu": 0.001, "gpu": None, "ram": 0.001}},
        },
        "tool": TOOL,
        "notes": [],
    }  # fmt: skip
    return {**section, **changes}


def found(**changes):
    """Return what the probe finds before the first step."""
    section = {
        "name": "toy",
        "task": "text-classification",
        "model": {"name_or_path": "toy", "model_type": "bert", "kind": "encoder-only", "init": "pretrained",
                  "parameters": 1_000_000, "trainable_parameters": 1_000_000},
        "dataset": {"path": "toy", "name": None, "fingerprint": "f", "rows": {"train": 64},
                    "length_tokens": {"p50": 5, "p95": 9, "max": 12}},
        "training": {"steps_per_epoch": 8, "total_steps": 16, "rows_per_step": 8, "num_processes": 1,
                     "device": "cpu", "mixed_precision": "no"},
        "hardware": {"device": "cpu", "device_name": "a processor", "mixed_precision": "no", "num_processes": 1,
                     "num_nodes": 1, "threads": 2},
        "memory": {"weights_bytes": 4_000_000, "gradients_bytes": 4_000_000, "optimizer_bytes": 8_000_000,
                   "activations_estimate_bytes": 1_000_000},
        "disk": {"needed_bytes": 28_000_000, "free_bytes": 10**10},
        "work": {
            "phases": {"baseline": {"evaluate": 100.0}, "evaluate": {"evaluate": 400.0}, "other": {"evaluate": 300.0},
                       "train": {"train": 1000.0}, "save": {"save": 2e7}},
            "unpadded_share": 0.9,
            "is_exact": True,
            "evaluations": 2,
            "size": {"computed": 500_000, "trained": 500_000, "is_full": True},
        },
        "emissions": emissions(),
        "peak_ram_bytes": 500_000_000,
        "peak_gpu_bytes": None,
        "notes": [],
    }  # fmt: skip
    return {**section, **changes}


def measured(**changes):
    """Return what the probe measures: 3.6 J and 0.1 s a token of training, a third of it to evaluate, 10 J a save."""
    section = {
        "blocks": {
            "train": [{"units": 20.0, "joules": 72.0, "seconds": 2.0}] * 20,
            "evaluate": [{"units": 60.0, "joules": 72.0, "seconds": 2.0}] * 20,
            "save": [{"units": 2e7, "joules": 10.0, "seconds": 1.0}] * 20,
        },
        "warm_up": {"units": 20.0, "joules": 108.0, "seconds": 3.0},
        "steps": 40,
        "emissions": emissions(),
        "peak_ram_bytes": 600_000_000,
        "peak_gpu_bytes": None,
    }
    return {**section, **changes}


@pytest.fixture
def recipe():
    """Return the shipped quickstart, of which only the sections are used."""
    from finetune.recipe.load import load_recipe

    return load_recipe("quickstart").recipe
