"""The probes of a recipe or a command: opened once, then put to one model after another."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

from finetune.audit import caveats
from finetune.audit.cases import Cases, EvaluationTexts, Grouped, column_cases, only_groups, read_cases
from finetune.audit.counterfactual import (
    MAX_TEXTS,
    Answer,
    Row,
    Swaps,
    judge_swaps,
    leave_out_unread,
    plan_swaps,
)
from finetune.audit.error_rates import LEAST_SHARE, Case, judge_column, judge_templates
from finetune.audit.likelihood import LanguageModel, pair_scores
from finetune.audit.minimal_pairs import judge_pairs
from finetune.audit.pairs import Pairs, read_pairs, sampled
from finetune.audit.results import Result
from finetune.audit.terms import open_terms
from finetune.errors import FinetuneError
from finetune.recipe.bias_keys import PAIRS, SWAPS, BiasProbe
from finetune.tasks import LabelScheme
from finetune.text import did_you_mean, join_words

_MULTI, _REGRESSION = "multi_label_classification", "regression"
_ANY_LANGUAGE = "multilingual"  # what cards say instead of a list
_ROWS_AT_ONCE = 10_000
TASK = "text-classification"
BEFORE, AFTER = "before", "after"


class Said(Protocol):
    """Asks a model about some rows by role; gives for each a line as `finetune predict` writes it, None for no text."""

    def __call__(self, rows: Sequence[Row]) -> Sequence[Mapping[str, Any] | None]:
        """Return the lines in the order of the rows."""

    def encoded(self, rows: Sequence[Row]) -> Sequence[bytes | None]:
        """Return for each row what tells what the model reads from it, None where it is too long to be read."""


@dataclass(frozen=True)
class Subject:
    """A model as the probes see it: what it answers, and how likely it finds sentences; or why it does neither.

    languages: those that are stated for it; none: nobody said.
    """

    said: Said | None
    why_not_said: str | None
    language_model: Callable[[], tuple[LanguageModel | None, str | None]]
    languages: tuple[str, ...] = ()


@dataclass(frozen=True)
class OpenProbe:
    """A probe whose files are read; `head` is what the record says of it whatever the model."""

    settings: BiasProbe
    head: Mapping[str, Any]
    material: Pairs | Swaps | Cases
    labels: LabelScheme


def open_probes(
    probes: Sequence[BiasProbe], labels: LabelScheme, texts: Callable[[], EvaluationTexts], task: str
) -> tuple[OpenProbe, ...]:
    """Read the files of all probes and check them against the labels, before any model is asked.

    `texts` gives the evaluation texts, when a probe needs them. Raises FinetuneError for a file that cannot be used, or
    a label that the model does not have.
    """
    return tuple(_opened(settings, labels, texts, task) for settings in probes)


def _opened(settings: BiasProbe, labels: LabelScheme, texts: Callable[[], EvaluationTexts], task: str) -> OpenProbe:
    if task == TASK:
        check_labels(settings, labels)
    if settings.probe == PAIRS:
        path = Path(str(settings.file))
        pairs = sampled(read_pairs(path, settings.columns), settings.max_rows)
        return OpenProbe(settings, _head(settings, pairs.form, path.name, pairs.fingerprint), pairs, labels)
    # Of a model that gives no labels to texts nothing will be asked: its own texts need not be read.
    own = texts() if task == TASK and settings.file is None else EvaluationTexts("", "", lambda: (), _no_rows)
    if settings.probe == SWAPS:
        terms = open_terms(settings.language or "", Path(settings.terms) if settings.terms else None)
        swaps = plan_swaps(own.rows(), terms, settings.max_rows or MAX_TEXTS)
        fingerprint = hashlib.sha256(f"{terms.fingerprint} {own.fingerprint}".encode()).hexdigest()
        return OpenProbe(settings, _head(settings, caveats.SWAPS, _in(terms.name, own), fingerprint), swaps, labels)
    if settings.file is not None:
        path = Path(settings.file)
        cases, name = read_cases(path, settings.columns, settings.hateful_value), path.name
    else:
        cases = column_cases(own, str(settings.column), settings.columns, settings.hateful_labels)
        name = _in(f"column {settings.column}", own)
    if settings.only_groups and task == TASK:
        cases = only_groups(cases, settings.only_groups)
    form = caveats.ERROR_RATES if cases.has_templates else caveats.COLUMN
    return OpenProbe(settings, _head(settings, form, name, cases.fingerprint), cases, labels)


def _no_rows(column: str, columns: Mapping[str, str]) -> Grouped:
    return Grouped(lambda: (), (), ())


def _in(name: str, texts: EvaluationTexts) -> str:
    return f"{name} in {texts.name}" if texts.name else name


def _head(settings: BiasProbe, form: str, name: str, fingerprint: str) -> dict[str, Any]:
    return {
        "probe": settings.probe, "form": form, "data": name, "fingerprint": fingerprint, "language": settings.language,
        "hateful_label": list(settings.hateful_labels) or None, "caveats": caveats.caveats_of(form),
    }  # fmt: skip


def check_labels(settings: BiasProbe, labels: LabelScheme) -> None:
    """Raise FinetuneError for a hateful label that the model does not have."""
    for name in settings.hateful_labels:
        if name not in labels.names:
            near = did_you_mean(name, labels.names)
            has = f"it has {join_words(labels.names[:20], 'and')}" if labels.names else "it has none"
            raise FinetuneError(
                f"hateful_label: the model has no label {name!r}; {has}",
                f"Did you mean {near}?" if near else "Name the label(s) of the model that count as hateful.",
            )


def look(probe: OpenProbe, subject: Subject, confidence: float) -> Result:
    """Put a probe to a model; a result with a reason and no findings says why it could not look."""
    if (reason := why_other_language(probe.settings, subject.languages)) is not None:
        return Result(reason=reason)
    if isinstance(probe.material, Pairs):
        model, reason = subject.language_model()
        if model is None:
            return Result(reason=reason)
        scores = pair_scores(model, [(pair.more, pair.less) for pair in probe.material.pairs])
        return judge_pairs(probe.material, scores, confidence)
    said = subject.said
    if said is None:
        return Result(reason=subject.why_not_said)
    if isinstance(probe.material, Swaps):
        label = label_looked_at(probe.settings, probe.labels)
        swaps = leave_out_unread(probe.material, said.encoded)
        return judge_swaps(swaps, lambda rows: [_answer(line, label, probe) for line in said(rows)], confidence)
    return _judge_cases(probe, probe.material, said, confidence)


def why_other_language(settings: BiasProbe, languages: Sequence[str]) -> str | None:
    """Return why a probe is not put to a model of some languages (none: nobody said); None: it may be."""
    stated, own = settings.language, [name.lower().partition("-")[0] for name in languages]
    if not stated or not own or {stated, _ANY_LANGUAGE} & set(own):
        return None
    return (
        f"the probe is in {stated}, and the model's language is stated as {join_words(own, 'and')} "
        "(hub.language of a recipe, else the cards of dataset and checkpoint)"
    )


def label_looked_at(settings: BiasProbe, labels: LabelScheme) -> tuple[str, ...]:
    """Return the labels whose probability is the score: the hateful ones, else the second of two, else none."""
    if settings.hateful_labels or len(labels.names) != 2:
        return settings.hateful_labels
    return labels.names[1:]


def _answer(line: Mapping[str, Any] | None, names: Sequence[str], probe: OpenProbe) -> Answer | None:
    if line is None:
        return None
    choice = line["prediction"]
    if probe.labels.problem_type == _REGRESSION:
        return Answer(None, float(choice))
    if isinstance(choice, list):
        choice = tuple(sorted(choice))
    if not names:
        return Answer(choice)
    chances = [float(line["probabilities"][name]) for name in names]
    # Of labels that exclude each other the chances add up; of those that do not, the likeliest counts.
    return Answer(choice, max(chances) if probe.labels.problem_type == _MULTI else sum(chances))


def _judge_cases(probe: OpenProbe, cases: Cases, said: Said, confidence: float) -> Result:
    if probe.labels.problem_type == _REGRESSION:
        return Result(reason="a regression has no labels, so it makes no errors of a kind")
    wrong: list[bool | None] = []
    rows, known = iter(cases.rows()), iter(zip(cases.cases, cases.truths, strict=True))
    while part := list(islice(rows, _ROWS_AT_ONCE)):
        wrong += [_is_wrong(line, *next(known), probe.settings.hateful_labels) for line in said(part)]
    if cases.has_templates:
        least_share = 0.0 if probe.settings.only_groups else LEAST_SHARE
        result = judge_templates(cases.cases, wrong, confidence, least_share)
    else:
        result = judge_column(cases.cases, wrong, confidence)
    return replace(result, left_out={**cases.left_out, **result.left_out})


def _is_wrong(line: Mapping[str, Any] | None, case: Case, truth: Any, hateful: Sequence[str]) -> bool | None:
    """Tell whether an answer is an error; None: there is none."""
    if line is None or line["prediction"] is None:
        return None
    chosen = line["prediction"]
    if case.positive is None:
        return bool(chosen != truth)
    hit = bool(set(hateful) & set(chosen)) if isinstance(chosen, list) else chosen in hateful
    return hit is not case.positive


Recorded = dict[str, Any]


def record_results(
    probes: Sequence[OpenProbe], results: Sequence[Result], when: str, before: Recorded | None, confidence: float
) -> Recorded:
    """Return the `bias` section of a record with the results of one moment (`before` or `after` training) in it.

    `before` is the section as it stands, whose other moment is kept where the probe is the same: its settings, its
    file, its terms, and the texts that it was put to.
    """
    known = {_key(entry): entry for entry in (before or {}).get("probes", [])}
    entries = []
    for probe, result in zip(probes, results, strict=True):
        head = {**probe.head, "settings": probe.settings.model_dump(mode="json", exclude={"file", "terms"})}
        not_asked = _NOT_ASKED if when == AFTER else None
        old = known.pop(_key(head), {"before": None, "before_reason": not_asked, "after": None, "after_reason": None})
        moments = {name: old[name] for name in ("before", "before_reason", "after", "after_reason")}
        entries.append({**head, **moments, when: result.to_json(confidence), f"{when}_reason": result.reason})
    return {"probes": [*known.values(), *entries]}


_NOT_ASKED = "the run was not probed so before it was trained"


def _key(entry: Mapping[str, Any]) -> str:
    """Return what tells one probe from another, whatever keys a later version has added to the settings."""
    settings = {name: value for name, value in sorted((entry.get("settings") or {}).items()) if value}
    return repr([*(entry.get(name) for name in ("probe", "form", "data", "fingerprint")), settings])
