"""Run finetune's own command line, with a clock around its optimizer steps: finetune_script RESULT WORD...

The clock is the one of the other scripts, so that all count the same seconds.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from benchmarks.script_parts import StepClock, around_steps
from finetune.cli.app import main
from finetune.training import loop


def run(result: Path, words: list[str]) -> int:
    """Carry out `finetune WORDS`, write what its steps took, and return the exit code."""
    clock, steps = StepClock(), loop.optimizer_steps
    loop.optimizer_steps = around_steps(steps, clock)
    try:
        code = main(words)
    finally:
        loop.optimizer_steps = steps
    if code == 0:
        result.write_text(json.dumps(clock.result()), encoding="utf-8")
    return code


if __name__ == "__main__":
    sys.exit(run(Path(sys.argv[1]), sys.argv[2:]))
