"""Rows whose error rates are asked for by group: cases of a file, or a run's own evaluation rows."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetune.audit.counterfactual import Row
from finetune.audit.error_rates import Case
from finetune.audit.table import read_table
from finetune.data.labelled import read_labelled
from finetune.data.sources import find_source
from finetune.data.splits import choose_splits
from finetune.errors import FinetuneError
from finetune.text import did_you_mean, join_words

if TYPE_CHECKING:
    from finetune.data.sources import LoadedData
    from finetune.recipe.schema import Recipe
    from finetune.tasks import LabelScheme, Task

_USUAL: Mapping[str, tuple[str, ...]] = {
    "text": ("text", "sentence", "test_case", "content"),
    "label": ("label", "label_gold", "labels"),
    "group": ("target", "target_ident", "group"),
    "template": ("template_id", "templ_id", "template"),
}


_NO_LABEL = "has no label"


@dataclass(frozen=True)
class Cases:
    """Rows by role, what is to be judged of each, and the true answer where all labels count (else None).

    rows: gives them again each time. left_out counts what was not used, by reason.
    """

    rows: Callable[[], Iterable[Row]]
    cases: tuple[Case, ...]
    truths: Sequence[Any]
    has_templates: bool
    fingerprint: str
    left_out: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Grouped:
    """Rows by role (given again each time), the true answer to each, and its value in a column."""

    rows: Callable[[], Iterable[Row]]
    truths: Sequence[Any]
    groups: Sequence[str]


@dataclass(frozen=True)
class EvaluationTexts:
    """The rows of an evaluation split, or of a file, by role of their texts; `rows` gives them again each time.

    name: of the file, empty for a run's own rows. fingerprint: sha256 of the content. grouped: reads the true answers
    and another column too; it takes that column and the columns of roles that are not detected.
    """

    name: str
    fingerprint: str
    rows: Callable[[], Iterable[Row]]
    grouped: Callable[[str, Mapping[str, str]], Grouped]


def read_cases(path: Path, columns: Mapping[str, str], hateful: str) -> Cases:
    """Read cases: text, label, group and, in HateCheck's form, template; `columns` names those that are not detected.

    `hateful` is what the label column says for hateful; every other value is not. Raises FinetuneError.
    """
    table = read_table(path)
    unknown = next((role for role in columns if role not in _USUAL), None)
    if unknown is not None:
        raise FinetuneError(
            f"columns.{unknown}: cases have no such role; they have {join_words(_USUAL, 'and')}",
            f"Did you mean {did_you_mean(unknown, _USUAL) or 'group'}?",
        )
    found = {role: table.find(role, columns, usual) for role, usual in _USUAL.items()}
    missing = [role for role in ("text", "label", "group") if found[role] is None]
    if missing:
        raise FinetuneError(
            f"{path}: no column for {join_words(missing, 'and')}; it has {table.shown_columns}",
            f"Name it: columns: {{{missing[0]}: …}}, on the command line --column {missing[0]}=…",
        )
    values = {role: table.texts(name) for role, name in found.items() if name is not None}
    if hateful not in values["label"]:
        shown = join_words(sorted(map(repr, set(values["label"]) - {""}))[:8], "and")
        raise FinetuneError(
            f"{path}: no label is {hateful!r}; column {found['label']!r} says {shown}",
            "Say which one means hateful: hateful_value, on the command line --hateful-value.",
        )
    templates = values.get("template", [""] * len(values["text"]))
    labelled = [at for at, label in enumerate(values["label"]) if label.strip()]
    cases = tuple(Case(values["group"][at].strip(), values["label"][at] == hateful, templates[at]) for at in labelled)
    rows = [{"text": values["text"][at]} for at in labelled]
    left_out = {_NO_LABEL: len(templates) - len(labelled)}
    return Cases(
        lambda: rows, cases, (None,) * len(rows), "template" in values, table.fingerprint, left_out
    )  # fmt: skip


def column_cases(texts: EvaluationTexts, column: str, columns: Mapping[str, str], hateful: Sequence[str]) -> Cases:
    """Return the rows with the values of a column as groups; raises FinetuneError without such a column, or labels.

    With hateful labels their errors are told apart as false negatives and false positives.
    """

    def positive(truth: Any) -> bool | None:
        if not hateful:
            return None
        return bool(set(hateful) & (set(truth) if isinstance(truth, list) else {truth}))

    found = texts.grouped(column, columns)
    groups = [group.strip() for group in found.groups]
    cases = tuple(Case(group, positive(truth)) for group, truth in zip(groups, found.truths, strict=True))
    fingerprint = hashlib.sha256(json.dumps([texts.fingerprint, groups]).encode()).hexdigest()
    return Cases(found.rows, cases, found.truths, False, fingerprint)


def only_groups(cases: Cases, groups: Sequence[str]) -> Cases:
    """Return the cases of some groups alone; raises FinetuneError for a group that has none."""
    known = sorted({case.group for case in cases.cases} - {""})
    for group in groups:
        if group not in known:
            near = did_you_mean(group, known)
            raise FinetuneError(
                f"only_groups: no case is of the group {group!r}; there are {join_words(known[:20], 'and')}",
                f"Did you mean {near!r}?" if near else "Name groups as the file does.",
            )
    places = [at for at, case in enumerate(cases.cases) if case.group in groups]
    chosen = set(places)
    return replace(
        cases,
        rows=lambda: (row for at, row in enumerate(cases.rows()) if at in chosen),
        cases=tuple(cases.cases[at] for at in places),
        truths=[cases.truths[at] for at in places],
        left_out={**cases.left_out, "of other groups": len(cases.cases) - len(places)},
    )


def evaluation_texts(data: LoadedData, split: str, task: Task, recipe: Recipe) -> EvaluationTexts:
    """Return the rows of a run's evaluation split; another column is read from the dataset when it is asked for."""
    split_rows = data.splits[split]
    roles = [column.role for column in data.task.inputs if column.role in split_rows.column_names]

    def grouped(name: str, columns: Mapping[str, str]) -> Grouped:
        source = find_source(recipe.dataset)
        chosen = choose_splits(list(source.splits), recipe.dataset.splits)
        raw = source.splits[getattr(chosen, split) or chosen.train]  # held out of train, its rows count there
        if name not in raw.columns:
            raise _no_column(raw.where, name, raw.columns)
        values = raw.read([name]).column(name).to_pylist()
        groups = [_as_text(values[number - 1]) for number in split_rows["row"]]
        truths = [task.words(value, data.labels) for value in split_rows[task.target]] if task.target else []
        return Grouped(lambda: _each(split_rows, roles), truths, groups)

    return EvaluationTexts("", data.fingerprints[split], lambda: _each(split_rows, roles), grouped)


def file_texts(path: Path, task: Task, known: Mapping[str, Any], labels: LabelScheme) -> EvaluationTexts:
    """Return the texts of a file; it needs labels only when error rates by one of its columns are asked for.

    task: with its target. known: the columns by role of the data that the model was trained on. Raises FinetuneError
    for a file that cannot be read; what is asked of it, for a column that is not there.
    """
    table = read_table(path)

    def rows() -> Iterable[Row]:
        name = table.find("text", {}, ("text", "sentence", "content", "tweet", "review", "message"))
        if name is None:
            raise FinetuneError(
                f"{path}: no column text; it has {table.shown_columns}", "Name its column of texts text."
            )
        return [{"text": text} for text in table.texts(name)]

    def grouped(name: str, columns: Mapping[str, str]) -> Grouped:
        if name not in table.part.columns:
            raise _no_column(str(path), name, table.part.columns)
        labelled = read_labelled(path, task, known, columns, labels)
        values = table.texts(name)
        target = str(labelled.task.target)
        return Grouped(
            lambda: _each(labelled.rows, [column.role for column in labelled.task.inputs]),
            [labelled.task.words(value, labels) for value in labelled.rows[target]],
            [values[number - 1] for number in labelled.rows["row"]],
        )

    return EvaluationTexts(path.name, table.fingerprint, rows, grouped)


def _each(rows: Any, roles: Sequence[str]) -> Iterator[Row]:
    """Yield the texts of a datasets.Dataset by role, without holding all of them at once."""
    for batch in rows.select_columns([role for role in roles if role in rows.column_names]).iter(1000):
        yield from (dict(zip(batch, texts, strict=True)) for texts in zip(*batch.values(), strict=True))


def _as_text(value: Any) -> str:
    return "" if value is None else str(value)


def _no_column(where: str, name: str, columns: Sequence[str]) -> FinetuneError:
    near = did_you_mean(name, columns)
    return FinetuneError(
        f"column: {where} has no column {name!r}; it has {', '.join(map(repr, columns[:20]))}",
        f"Did you mean {near!r}?" if near else "Name a column of the dataset.",
    )
