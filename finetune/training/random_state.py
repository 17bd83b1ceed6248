"""The state of every random generator that training draws from."""

from __future__ import annotations

import random
from typing import Any


def seed_everything(seed: int) -> None:
    """Seed Python's, numpy's and torch's generators."""
    import numpy
    import torch

    random.seed(seed)
    numpy.random.seed(seed)
    torch.manual_seed(seed)


def seed_rank(seed: int, rank: int) -> None:
    """Give a rank generators of its own, so that no two draw the same dropout; rank 0 goes on with the seed's."""
    import numpy

    if rank:
        seed_everything(int(numpy.random.SeedSequence([seed, rank]).generate_state(1)[0]))


def take_random_state() -> dict[str, Any]:
    """Return the state of all generators, in types that torch.load reads without pickle's code."""
    import numpy
    import torch

    legacy: Any = numpy.random.get_state(legacy=True)
    name, keys, position, has_gauss, gauss = legacy
    state: dict[str, Any] = {
        "python": random.getstate(),
        "numpy": (name, torch.from_numpy(keys.astype("int64")), int(position), int(has_gauss), float(gauss)),
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def restore_random_state(state: dict[str, Any]) -> None:
    """Set all generators to a state that `take_random_state` returned."""
    import numpy
    import torch

    random.setstate(state["python"])
    name, keys, position, has_gauss, gauss = state["numpy"]
    numpy.random.set_state((name, keys.numpy().astype("uint32"), position, has_gauss, gauss))
    torch.set_rng_state(state["torch"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"])
