"""All that is said of a study, computed once for table, page and charts."""

from __future__ import annotations

from dataclasses import dataclass

from finetune.study.reach import Reach, reaches
from finetune.study.results import Results
from finetune.study.sizes import Size, sizes


@dataclass(frozen=True)
class Findings:
    """The results of a study, what reaching the reference's score takes, and the sizes where models differ."""

    results: Results
    reaches: tuple[Reach, ...]
    sizes: tuple[Size, ...]


def findings(results: Results) -> Findings:
    """Return what the results show."""
    return Findings(results, tuple(reaches(results)), tuple(sizes(results)))
