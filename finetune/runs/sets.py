"""Which runs may be ranked together: those that answered the same questions and are judged by the same metric."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

from finetune.runs.comparison import RunSet
from finetune.runs.record import Run, as_mapping
from finetune.runs.scoring import Scored


def run_sets(runs: Sequence[Run], scored: Mapping[str, Scored | None]) -> dict[str, RunSet]:
    """Return the set of each run that has a score, by run id; the largest set is A.

    The same rows of the same split are what counts: what a run was trained on is a difference between runs, as its
    learning rate is.
    """
    prints = _fingerprints(runs, scored)
    members: dict[tuple[str, str, str, str], list[str]] = defaultdict(list)
    first: dict[tuple[str, str, str, str], Scored] = {}
    for run in runs:
        found = scored[run.run_id]
        if found is None:
            continue
        key = (prints[run.run_id], found.split, found.metric, str(found.score.n))
        members[key].append(run.run_id)
        first.setdefault(key, found)
    largest_first = sorted(members, key=lambda key: -len(members[key]))
    sets = {}
    for number, key in enumerate(largest_first):
        found = first[key]
        run_set = RunSet(_name(number), found.metric, found.split, found.greater_is_better, key[0], found.score.n)
        sets.update(dict.fromkeys(members[key], run_set))
    return sets


def split_fingerprint(run: Run, split: str) -> str | None:
    """Return the fingerprint of one split, None in a record that does not have it."""
    found = as_mapping(run.dataset.get("fingerprints")).get(split)
    return str(found) if found else None


def _fingerprints(runs: Sequence[Run], scored: Mapping[str, Scored | None]) -> dict[str, str]:
    """Return what identifies the rows that each run is judged on.

    An older record has a fingerprint of all splits together. Where a newer one has that too, it tells which rows the
    older one was scored on. Data without any fingerprint could be anything: such a run stands alone.
    """
    known: dict[tuple[str, str], str] = {}
    for run in runs:
        found, whole = scored[run.run_id], run.dataset.get("fingerprint")
        own = split_fingerprint(run, found.split) if found else None
        if found and own and whole:
            known[str(whole), found.split] = own
    prints = {}
    for run in runs:
        found, whole = scored[run.run_id], run.dataset.get("fingerprint")
        if found:
            older = known.get((str(whole), found.split), str(whole)) if whole else run.run_id
            prints[run.run_id] = split_fingerprint(run, found.split) or older
    return prints


def _name(number: int) -> str:
    return chr(ord("A") + number) if number < 26 else f"A{number}"
