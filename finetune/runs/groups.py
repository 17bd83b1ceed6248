"""Runs put together: the seeds of a recipe, or all runs with one value of a recipe key."""

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations, takewhile
from statistics import fmean

from finetune.errors import FinetuneError
from finetune.runs.comparison import VARIES, Grid, Group, Pair, Row
from finetune.runs.deltas import delta, energy_parts, judged, shown_together
from finetune.runs.differences import flatten, short_key
from finetune.runs.energy_ratio import group_energy_ratio
from finetune.runs.front import front_steps, tries
from finetune.runs.score_pairs import counted, group_difference
from finetune.runs.sets import split_fingerprint
from finetune.runs.statistics import mean_over_seeds
from finetune.text import did_you_mean

SEED = "training.seed"
BY_SEED, BY_NONE = "seed", "none"
_ALL_PAIRS = 4  # so many groups of a set are all held against each other, more of them against the best


def grouping_key(group_by: str | None, rows: Sequence[Row]) -> str | None:
    """Return the key by which runs are put together; None: each stands alone.

    Without a wish (None) seeds are put together when there are several of one recipe. Raises FinetuneError for a key
    that no recipe has.
    """
    if group_by == BY_NONE:
        return None
    if group_by is None:
        return SEED if any(len(members) > 1 for members in _members(rows, SEED).values()) else None
    keys = dict.fromkeys(key for row in rows for key in flatten(row.run.recipe))
    asked = SEED if group_by == BY_SEED else group_by
    found = [key for key in keys if asked in (key, key.rpartition(".")[2])]
    if asked in keys or len(found) == 1:
        return asked if asked in keys else found[0]
    near = did_you_mean(asked, (*keys, BY_SEED, BY_NONE))
    raise FinetuneError(
        f"--group-by {group_by}: no such key in these recipes" + (f"; did you mean {near}?" if near else ""),
        "Group by seed, by none, or by a recipe key such as training.learning_rate.",
    )


def make_groups(rows: Sequence[Row], by: str, keys: Sequence[str], grid: Grid | None) -> list[Group]:
    """Put the finished runs with a score together and mark the groups on the front; runs of two sets never mix."""
    groups = [_group(members, by, keys) for members in _members(rows, by).values()]
    return _with_front(_with_names(groups, by, keys), grid)


def group_pairs(groups: Sequence[Group], baseline: Row | None, grid: Grid | None) -> list[Pair]:
    """Hold groups against that of the baseline run; without one all against each other, or many against the best."""
    by_set: dict[str, list[Group]] = defaultdict(list)
    for group in groups:
        if group.run_set is not None:
            by_set[group.run_set.name].append(group)
    chosen: list[tuple[Group, Group]] = []
    for members in by_set.values():
        against = next((group for group in members if baseline is not None and _holds(group, baseline)), None)
        best_first = sorted(members, key=_worth, reverse=True)
        if against is None and len(members) > _ALL_PAIRS:
            against = best_first[0]
        if against is not None:
            chosen += [(group, against) for group in best_first if group is not against]
        elif baseline is None:
            chosen += combinations(best_first, 2)
    found = shown_together([delta(ours.members, theirs.members, grid) for ours, theirs in chosen])
    return [Pair(ours.name, theirs.name, difference) for (ours, theirs), difference in zip(chosen, found, strict=True)]


def group_notes(rows: Sequence[Row], groups: Sequence[Group], by: str) -> list[str]:
    """Say what is not in the groups, what they mix, and where seed noise is unknown."""
    inside = {row.run.run_id for group in groups for row in group.rows}
    notes = [
        f"{row.run.run_id} is {row.run.status}: not in a group"
        if not row.run.is_finished
        else f"{row.run.run_id} has no score: not in a group"
        for row in rows
        if row.run.run_id not in inside
    ]
    if by != SEED:
        for group in groups:
            varying = [key for key, value in group.differences.items() if value == VARIES and key != SEED]
            if varying:
                notes.append(f"{group.name}: the runs differ in {', '.join(varying)} as well, and so does their spread")
    single = [group.name for group in groups if len(group.members) == 1]
    if by == SEED and single:
        several = "" if len(single) == len(groups) else "; against several it is taken to scatter as these do"
        notes.append(f"one seed only, seed noise unknown: {', '.join(single)}{several}")
    again = [group.name for group in groups if any(len(rows) > 1 for rows in group.members.values())]
    if again:
        notes.append(f"runs of the same recipe and seed count once, with their mean: {', '.join(again)}")
    return notes


def _members(rows: Sequence[Row], by: str) -> dict[str, dict[str, tuple[Row, ...]]]:
    """Return the runs by group, and in each by what pairs them with the runs of another group."""
    found: dict[str, dict[str, list[Row]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        if row.run_set is None or row.score is None or not row.run.is_finished:
            continue
        value = _value(row, by)
        others = {key: other for key, other in row.differences.items() if key != by}
        rest = json.dumps([others, split_fingerprint(row.run, "train")], sort_keys=True, default=str)
        # Seeds vary inside a group; any other key is what a group has in common.
        group, unit = (rest, value) if by == SEED else (value, rest)
        found[f"{row.run_set.name} {group}"][unit].append(row)
    return {
        group: {unit: tuple(sorted(same, key=lambda row: row.run.run_id)) for unit, same in sorted(units.items())}
        for group, units in sorted(found.items())
    }


def _value(row: Row, key: str) -> str:
    value = row.differences[key] if key in row.differences else flatten(row.run.recipe).get(key)
    return json.dumps(value, sort_keys=True, default=str)


def _group(members: Mapping[str, tuple[Row, ...]], by: str, keys: Sequence[str]) -> Group:
    rows = [row for same in members.values() for row in same]
    scores = [fmean(row.score.value for row in same if row.score is not None) for same in members.values()]
    reasons = dict.fromkeys(reason for row in rows for reason in row.not_ranked)
    shown = {key: [row.differences.get(key) for row in rows] for key in keys if key != by or by != SEED}
    return Group(
        name=_common_name([row.run.name for row in rows]),
        run_set=rows[0].run_set,
        members=members,
        differences={
            key: values[0] if all(value == values[0] for value in values) else VARIES for key, values in shown.items()
        },
        score=mean_over_seeds(scores),
        not_ranked=tuple(reasons),
    )


def _common_name(names: Sequence[str]) -> str:
    """Return the words that all names begin with: runs of a study end in their seed. Without any, one of the names."""
    words = zip(*(name.split("-") for name in names), strict=False)
    return "-".join(same[0] for same in takewhile(lambda same: len(set(same)) == 1, words)) or min(names)


def _with_names(groups: Sequence[Group], by: str, keys: Sequence[str]) -> list[Group]:
    """Name groups by their runs' name, and by what sets them apart where that is not enough."""
    if by != SEED:
        leaf = short_key(by, keys)
        named = [replace(group, name=f"{leaf}={json.loads(_value(group.rows[0], by))}") for group in groups]
    else:
        same = Counter(group.name for group in groups)
        named = [
            replace(group, name=_apart(group, groups, keys)) if same[group.name] > 1 else group for group in groups
        ]
    taken = Counter(group.name for group in named)
    return [
        replace(group, name=f"{group.name} {group.rows[0].run.run_id[-6:]}") if taken[group.name] > 1 else group
        for group in named
    ]


def _apart(group: Group, groups: Sequence[Group], keys: Sequence[str]) -> str:
    rivals = [other for other in groups if other.name == group.name]
    telling = [key for key in group.differences if len({str(rival.differences.get(key)) for rival in rivals}) > 1]
    words = [f"{short_key(key, keys)}={group.differences[key]}" for key in telling[:2]]
    return f"{group.name} ({', '.join(words)})" if words else group.name


def _holds(group: Group, row: Row) -> bool:
    return any(other.run.run_id == row.run.run_id for other in group.rows)


def _worth(group: Group) -> tuple[float, str]:
    value = group.score.value if group.score is not None else 0.0
    return (value if group.run_set is None or group.run_set.greater_is_better else -value, group.name)


def _with_front(groups: Sequence[Group], grid: Grid | None) -> list[Group]:
    """Mark, in each set, the groups that none is shown to beat in score and in energy, and price their steps."""
    by_set: dict[str, list[Group]] = defaultdict(list)
    for group in groups:
        if group.run_set is not None and not group.not_ranked:
            by_set[group.run_set.name].append(group)
    ranked = {group.name for members in by_set.values() for group in members}
    beaten = {name: rival for members in by_set.values() for name, rival in _beaten(members).items()}
    marked = [
        replace(group, on_front=group.name in ranked and group.name not in beaten, dominated_by=beaten.get(group.name))
        for group in groups
    ]
    steps, names = front_steps(marked, grid), {group.key: group.name for group in groups}
    return [
        replace(group, next_cheaper=names[steps[group.key][0]], step=steps[group.key][1])
        if group.key in steps
        else group
        for group in marked
    ]


def _beaten(members: Sequence[Group]) -> dict[str, str]:
    """Return which groups are beaten, each with the best one that does."""
    judgements = {group.name: judged(group.members) for group in members}
    parts = {group.name: energy_parts(group.members) for group in members}
    kwh = {group.name: _ranked_kwh(group)[0] for group in members}
    best_first = sorted(members, key=_worth, reverse=True)
    count = tries(len(members))

    def beats(rival: Group, group: Group) -> bool:
        if kwh[rival.name] >= kwh[group.name] or _worth(rival)[0] <= _worth(group)[0]:
            return False
        if not counted(group_difference(judgements[rival.name], judgements[group.name]), count).is_distinguished:
            return False
        ratio = group_energy_ratio(parts[rival.name], parts[group.name])
        return ratio is not None and ratio.verdict == "cheaper"

    found = {
        group.name: next((rival.name for rival in best_first[:place] if beats(rival, group)), None)
        for place, group in enumerate(best_first)
    }
    return {name: rival for name, rival in found.items() if rival is not None}


def _ranked_kwh(group: Group) -> tuple[float, str]:
    return group.ranked_kwh or 0.0, group.name
