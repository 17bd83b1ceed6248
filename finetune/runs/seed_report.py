"""What a person reads when all seeds of a recipe have been trained."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from finetune.runs import formats
from finetune.runs.record import Run, run_to_json
from finetune.runs.report import output_dir_option
from finetune.runs.statistics import Mean, mean_over_seeds
from finetune.runs.tables import one_line, plain
from finetune.runs.total import total_energy
from finetune.text import join_words, plural


def print_seeds(group: str, seeds: Sequence[int], runs: Sequence[Run], as_json: bool) -> None:
    """Print the closing lines for the runs of a group on stdout, or {group, seeds, score, energy_kwh, …, runs}."""
    if as_json:
        print(json.dumps(seeds_to_json(group, seeds, runs), indent=2))
    elif runs:
        print("\n" + seeds_panel(seeds, runs))


def mean_score(runs: Sequence[Run]) -> Mean | None:
    """Return the mean of the main scores of the finished runs; None when there is none, or they are of two kinds."""
    kinds = {(run.main_metric.get("name"), run.main_metric.get("split")) for run in runs if run.is_finished}
    scores = [score.value for run in runs if run.is_finished and (score := run.main_score()) is not None]
    return mean_over_seeds(scores) if scores and len(kinds) == 1 else None


def seeds_to_json(group: str, seeds: Sequence[int], runs: Sequence[Run]) -> dict[str, Any]:
    """Return the group for programs: the mean score with its interval over the seeds, sums, and every record."""
    mean, total = mean_score(runs), total_energy(runs)
    return {
        "group": group,
        "seeds": list(seeds),
        "finished": sum(run.is_finished for run in runs),
        "score": {"value": mean.value, "low": mean.low, "high": mean.high, "seeds": mean.n} if mean else None,
        "energy_kwh": total["energy_kwh"],
        "emissions_g": total["emissions_g"],
        "runs": [run_to_json(run) for run in runs],
    }


def seeds_panel(seeds: Sequence[int], runs: Sequence[Run]) -> str:
    """Return the closing lines: the mean score and its interval over the seeds, what all runs used, what to type."""
    finished = sum(run.is_finished for run in runs)
    words = join_words([str(seed) for seed in seeds], "and")
    title = one_line(f"{runs[0].name}: {finished} of {plural(len(seeds), 'seed')} finished ({words})")
    total = total_energy(runs)
    incomplete = total["without_reading"] or total["incomplete"]
    lines = [
        title,
        "─" * min(len(title), 100),
        f"score   {_score_words(runs)}",
        f"energy  {'at least ' if incomplete and total['energy_kwh'] is not None else ''}"
        f"{formats.energy(total['energy_kwh'])} in {plural(len(runs), 'run')}",
        f"CO2e    {'at least ' if incomplete and total['emissions_g'] is not None else ''}"
        f"{formats.grams(total['emissions_g'])}",
        f"next    finetune compare {runs[0].group}{_folder(runs[0])}",
    ]
    return plain("\n".join(lines))


def _score_words(runs: Sequence[Run]) -> str:
    mean = mean_score(runs)
    if mean is None:
        return "none: no run was evaluated to its end"
    main = next(run.main_metric for run in runs if run.is_finished)
    words = f"{main.get('name')} on {main.get('split')}: {formats.mean_score(mean)}"
    return words + (" (one seed: seed noise unknown)" if mean.low is None else f" (mean of {mean.n} seeds, 95 %)")


def _folder(run: Run) -> str:
    return output_dir_option(run.directory.parent if run.directory is not None else Path("runs"))
