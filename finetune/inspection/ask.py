"""Have a checkpoint loaded in a process of its own, which needs torch; this module does not."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from finetune.errors import FinetuneError
from finetune.inspection.inspect import Inspection
from finetune.training.launch import end_with_launcher, module_process

PROBE = "finetune.inspection.probe"


def ask_probe(found: Inspection) -> dict[str, Any]:
    """Load a checkpoint and return what its outputs tell of who attends to whom.

    Raises FinetuneError when it takes no text or cannot be loaded.
    """
    _require_text(found)
    return _ask({**_place(found), "what": "masks", "masks": [asdict(mask) for mask in found.masks]})


def ask_heads(found: Inspection, sentence: str) -> dict[str, Any]:
    """Load a checkpoint and return how each head attends over the tokens of a sentence; raises as `ask_probe`."""
    _require_text(found)
    if found.kind is None:
        raise FinetuneError(
            f"{found.source.reference}: no attention to show: {found.why_none}", "Leave --attention out."
        )
    return _ask({**_place(found), "what": "heads", "sentence": sentence})


def _place(found: Inspection) -> dict[str, Any]:
    source = found.source
    return {"reference": source.reference, "place": source.place, "revision": source.revision, "kind": found.kind}


def _require_text(found: Inspection) -> None:
    if not found.settings.family.is_known:
        raise FinetuneError(
            f"{found.source.reference}: transformers has no family {found.settings.family.model_type}, and code that "
            "comes with a checkpoint is not run",
            "A newer transformers may have it: pip install --upgrade transformers",
        )
    if not found.takes_text_alone:
        raise FinetuneError(
            f"{found.source.reference}: {found.why_none}, so there are no tokens to change",
            "Leave --probe and --attention out.",
        )


def _ask(request: Mapping[str, Any], module: str = PROBE) -> dict[str, Any]:
    command, environment = module_process(module)
    done = subprocess.run(
        command, input=json.dumps(request), capture_output=True, text=True, env=environment, check=False,
        preexec_fn=end_with_launcher(),
    )  # fmt: skip
    answer = _last_line(done.stdout.splitlines())
    if "error" in answer:
        raise FinetuneError(answer["error"], answer["hint"])
    if done.returncode == 0 and answer:
        return answer
    if done.returncode == -signal.SIGKILL:
        raise FinetuneError(
            f"{request['reference']}: the probe was killed, most likely because the memory was too small",
            "Without --probe and --attention no weights are loaded.",
        )
    said = done.stderr.strip().splitlines()
    raise FinetuneError(
        f"{request['reference']}: the probe failed (exit code {done.returncode}): {said[-1] if said else 'no output'}",
        "Without --probe and --attention no weights are loaded.",
    )


def _last_line(lines: Sequence[str]) -> dict[str, Any]:
    """Return the answer: libraries may have printed lines of their own before it."""
    if not lines or not lines[-1].startswith("{"):
        return {}
    answer: dict[str, Any] = json.loads(lines[-1])
    return answer
