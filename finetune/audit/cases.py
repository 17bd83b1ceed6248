"""Rows whose error rates are asked for by group: cases of a file, or a run's own evaluation rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetune.audit.error_rates import Case
from finetune.audit.table import read_table
from finetune.data.sources import find_source
from finetune.data.splits import choose_splits
from finetune.errors import FinetuneError
from finetune.text import did_you_mean, join_words

if TYPE_CHECKING:
    from finetune.data.sources import LoadedData
    from finetune.recipe.schema import Recipe
    from finetune.tasks import Task

_USUAL: Mapping[str, tuple[str, ...]] = {
    "text": ("text", "sentence", "test_case", "content"),
    "label": ("label", "label_gold", "labels"),
    "group": ("target", "target_ident", "group"),
    "template": ("template_id", "templ_id", "template"),
}


@dataclass(frozen=True)
class Cases:
    """Rows by role, what is to be judged of each, and the true answer where all labels count (else None)."""

    rows: tuple[Mapping[str, str], ...]
    cases: tuple[Case, ...]
    truths: tuple[Any, ...]
    has_templates: bool
    fingerprint: str | None = None


@dataclass(frozen=True)
class EvaluationTexts:
    """The rows of an evaluation split by role of their texts, the true answers, and any other column of the dataset."""

    rows: Sequence[Mapping[str, str]]
    truths: Sequence[Any]
    column: Callable[[str], list[str]]


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
        shown = join_words(sorted(map(repr, set(values["label"])))[:8], "and")
        raise FinetuneError(
            f"{path}: no label is {hateful!r}; column {found['label']!r} says {shown}",
            "Say which one means hateful: hateful_value, on the command line --hateful-value.",
        )
    templates = values.get("template", [""] * len(values["text"]))
    cases = (
        Case(group.strip(), label == hateful, template)
        for group, label, template in zip(values["group"], values["label"], templates, strict=True)
    )
    rows = tuple({"text": text} for text in values["text"])
    return Cases(rows, tuple(cases), (None,) * len(rows), "template" in values, table.fingerprint)


def column_cases(texts: EvaluationTexts, column: str, hateful: Sequence[str]) -> Cases:
    """Return the evaluation rows with the values of a column as groups; raises FinetuneError without such a column.

    With hateful labels their errors are told apart as false negatives and false positives.
    """

    def positive(truth: Any) -> bool | None:
        if not hateful:
            return None
        return bool(set(hateful) & (set(truth) if isinstance(truth, list) else {truth}))

    groups = texts.column(column)
    cases = (Case(group.strip(), positive(truth)) for group, truth in zip(groups, texts.truths, strict=True))
    return Cases(tuple(texts.rows), tuple(cases), tuple(texts.truths), has_templates=False)


def evaluation_texts(data: LoadedData, split: str, task: Task, recipe: Recipe) -> EvaluationTexts:
    """Return the rows of a run's evaluation split; another column is read from the dataset when it is asked for."""
    rows = data.splits[split]
    roles = [column.role for column in data.task.inputs if column.role in rows.column_names]
    texts = [{role: row[role] for role in roles} for row in rows.select_columns(roles).to_list()]
    truths = [task.words(value, data.labels) for value in rows[task.target]] if task.target else []

    def column(name: str) -> list[str]:
        source = find_source(recipe.dataset)
        chosen = choose_splits(list(source.splits), recipe.dataset.splits)
        raw = source.splits[getattr(chosen, split) or chosen.train]  # held out of train, its rows count there
        if name not in raw.columns:
            near = did_you_mean(name, raw.columns)
            raise FinetuneError(
                f"column: {raw.where} has no column {name!r}; it has {', '.join(map(repr, raw.columns[:20]))}",
                f"Did you mean {near!r}?" if near else "Name a column of the dataset.",
            )
        values = raw.read([name]).column(name).to_pylist()
        found = [values[number - 1] for number in rows["row"]]
        return ["" if value is None else str(value) for value in found]

    return EvaluationTexts(texts, truths, column)
