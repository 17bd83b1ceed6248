"""Whether the Hugging Face hub answers, and as whom."""

from __future__ import annotations

from finetune.doctor.check import OK, WARN, Check
from finetune.hub import hub_problem


def check_hub(endpoint: str, offline: bool) -> Check:
    """Ask the hub for a sign of life, for some seconds; whatever it answers below 500, it is reachable."""
    if offline:
        return Check("hub", OK, f"{endpoint} is not asked: offline (HF_HUB_OFFLINE or --offline)")
    problem = hub_problem(endpoint)
    if problem is None:
        return Check("hub", OK, f"{endpoint} answers")
    return Check(
        "hub",
        WARN,
        f"{endpoint} cannot be used: {problem}",
        "Look at HF_ENDPOINT and HTTPS_PROXY; without a hub, run with --offline and local or package: inputs.",
    )


def check_token(token: str | None) -> Check:
    """Tell whether there is a token, never which."""
    if token:
        return Check("hub token", OK, "there is one")
    return Check("hub token", OK, "none; private and gated repositories need one: hf auth login")
