"""The probes of a recipe or a command: opened once, then put to one model after another."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from finetune.audit import caveats
from finetune.audit.cases import Cases, EvaluationTexts, column_cases, read_cases
from finetune.audit.counterfactual import MAX_TEXTS, Answer, Row, Swaps, judge_swaps, plan_swaps
from finetune.audit.error_rates import judge_column, judge_templates
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
TASK = "text-classification"


class Said(Protocol):
    """Asks a model about some rows by role; gives for each a line as `finetune predict` writes it, None for no text."""

    def __call__(self, rows: Sequence[Row]) -> Sequence[Mapping[str, Any] | None]:
        """Return the lines in the order of the rows."""


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
    path = Path(settings.file) if settings.file else None
    if settings.probe == PAIRS:
        assert path is not None  # checked with the recipe
        pairs = sampled(read_pairs(path, settings.columns), settings.max_rows)
        return OpenProbe(settings, _head(settings, pairs.form, path.name, pairs.fingerprint), pairs, labels)
    if settings.probe == SWAPS:
        terms = open_terms(settings.language or "", Path(settings.terms) if settings.terms else None)
        rows = texts().rows if task == TASK else []
        swaps = plan_swaps(rows, terms, settings.max_rows or MAX_TEXTS)
        return OpenProbe(settings, _head(settings, caveats.SWAPS, terms.name, None), swaps, labels)
    if path is not None:
        cases = read_cases(path, settings.columns, settings.hateful_value)
        form = caveats.ERROR_RATES if cases.has_templates else caveats.COLUMN
        return OpenProbe(settings, _head(settings, form, path.name, cases.fingerprint), cases, labels)
    cases = column_cases(texts(), str(settings.column), settings.hateful_labels)
    return OpenProbe(settings, _head(settings, caveats.COLUMN, f"column {settings.column}", None), cases, labels)


def _head(settings: BiasProbe, form: str, name: str, fingerprint: str | None) -> dict[str, Any]:
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
    stated, own = probe.settings.language, [name.lower().partition("-")[0] for name in subject.languages]
    if stated and own and stated not in own:
        return Result(
            reason=f"the probe is in {stated}, and the model's language is stated as {join_words(own, 'and')}; "
            "hub.language states another"
        )
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
        return judge_swaps(
            probe.material, lambda rows: [_answer(line, label, probe) for line in said(rows)], confidence
        )
    return _judge_cases(probe, probe.material, said, confidence)


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
        return Answer(choice, float(choice))
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
    names = set(probe.settings.hateful_labels)
    wrong: list[bool | None] = []
    for line, case, truth in zip(said(cases.rows), cases.cases, cases.truths, strict=True):
        chosen = None if line is None else line["prediction"]
        if chosen is None:
            wrong.append(None)
        elif case.positive is None:
            wrong.append(chosen != truth)
        else:
            hit = bool(names & set(chosen)) if isinstance(chosen, list) else chosen in names
            wrong.append(hit is not case.positive)
    judge = judge_templates if cases.has_templates else judge_column
    return judge(cases.cases, wrong, confidence)


Recorded = dict[str, Any]


def record_results(
    probes: Sequence[OpenProbe], results: Sequence[Result], when: str, before: Recorded | None, confidence: float
) -> Recorded:
    """Return the `bias` section of a record with the results of one moment (`before` or `after` training) in it.

    `before` is the section as it stands, whose other moment is kept where the probe is the same.
    """
    known = {_key(entry): entry for entry in (before or {}).get("probes", [])}
    entries = []
    for probe, result in zip(probes, results, strict=True):
        head = {**probe.head, "settings": probe.settings.model_dump(mode="json", exclude={"file", "terms"})}
        old = known.pop(_key(head), {"before": None, "before_reason": None, "after": None, "after_reason": None})
        moments = {name: old[name] for name in ("before", "before_reason", "after", "after_reason")}
        entries.append({**head, **moments, when: result.to_json(confidence), f"{when}_reason": result.reason})
    return {"probes": [*known.values(), *entries]}


def _key(entry: Mapping[str, Any]) -> str:
    return repr([entry.get(name) for name in ("probe", "form", "data", "fingerprint", "settings")])
