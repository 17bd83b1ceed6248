"""The entries of evaluation.bias: the probes of bias, their keys, which belong to which, what they must agree on."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, ValidationError

from finetune.recipe.kinds import Count, Section, Text
from finetune.text import did_you_mean, join_words, nearest_or_all

if TYPE_CHECKING:
    from finetune.recipe.schema import Recipe

KEY = ("evaluation", "bias")
PAIRS, SWAPS, GROUPS = "pairs", "swaps", "groups"
FILES = ("file", "terms")  # what names a file, relative to the recipe


class BiasProbe(Section):
    """One probe of bias, run before and after training."""

    probe: Literal["pairs", "swaps", "groups"] = Field(
        description=(
            "pairs: likelihoods of minimal pairs; swaps: exchanged identity terms in the evaluation texts; groups: "
            "error rates by group."
        )
    )
    file: Text | None = Field(
        default=None, description="Pairs, or cases with text, label, group and template, relative to the recipe."
    )
    columns: dict[Text, Text] = Field(
        default={},
        description=(
            "Role → column of the file: more, less or pro, anti, and category; or text, label, group and template."
        ),
    )
    language: Annotated[str, Field(pattern=r"^[a-z]{2,3}$")] | None = Field(
        default=None, description="Language of the terms or of the file, ISO 639: it must be one of the model's."
    )
    terms: Text | None = Field(
        default=None, description="Your own terms (columns dimension, form, group, term) instead of the built-in ones."
    )
    hateful_label: Text | list[Text] | None = Field(
        default=None,
        description="Label(s) of the model that count as what the file calls hateful; the label looked at.",
    )
    hateful_value: Text = Field(default="hateful", description="What the label column of the file says for hateful.")
    column: Text | None = Field(
        default=None, description="Column of the dataset whose values are the groups, instead of a file."
    )
    only_groups: list[Text] | None = Field(
        default=None,
        description="Only these groups, on the templates that all of them share (null: all but those with few).",
    )
    max_rows: Count | None = Field(
        default=None, description="At most so many pairs, or texts in a direction (null: 1,000), as a seeded sample."
    )

    @property
    def hateful_labels(self) -> tuple[str, ...]:
        """Return the labels that count as hateful."""
        named = self.hateful_label
        return () if named is None else (named,) if isinstance(named, str) else tuple(named)


# What each probe reads beside `probe` itself.
_USES: Mapping[str, tuple[str, ...]] = {
    PAIRS: ("file", "columns", "language", "max_rows"),
    SWAPS: ("language", "terms", "hateful_label", "max_rows"),
    GROUPS: ("file", "columns", "language", "hateful_label", "hateful_value", "column", "only_groups"),
}


def bias_probes(entries: list[dict[str, Any]] | None) -> tuple[BiasProbe, ...]:
    """Return the probes of a recipe that was checked."""
    return tuple(BiasProbe.model_validate(entry) for entry in entries or ())


def bias_faults(recipe: "Recipe") -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield what is wrong with the probes: the key to blame and the fault, which names the item."""
    entries = recipe.evaluation.bias
    if entries == []:
        yield KEY, "holds no probe; leave it out"
    for number, entry in enumerate(entries or (), start=1):
        for fault in entry_faults(entry):
            yield KEY, f"item {number}: {fault}"


def entry_faults(entry: dict[str, Any]) -> list[str]:
    """Return what is wrong with one probe."""
    try:
        probe = BiasProbe.model_validate(entry)
    except ValidationError as error:
        return list(dict.fromkeys(_refusal(fault) for fault in error.errors(include_url=False)))
    return [*_unused(probe, entry), *_missing(probe)]


def _refusal(fault: Any) -> str:
    name, kind = str(fault["loc"][0]), fault["type"]
    if kind == "extra_forbidden":
        return f"unknown key {name}; {nearest_or_all(name, BiasProbe.model_fields, 'it has')}"
    if kind == "missing":
        return f"{name} is missing; expected {join_words(_USES)}"
    if name == "probe":
        near = did_you_mean(str(fault["input"]), _USES)
        said = f"; did you mean {near}?" if near else ""
        return f"probe: expected {join_words(_USES)}, found {fault['input']!r}{said}"
    if name == "language":
        return f"language: expected two or three lower-case letters, as pt, found {fault['input']!r}"
    what = {"columns": "a mapping of role: column", "max_rows": "a whole number, at least 1",
            "only_groups": "a list of texts", "hateful_label": "a text or a list of texts"}  # fmt: skip
    return f"{name}: expected {what.get(name, 'a text')}, found {fault['input']!r}"


def _unused(probe: BiasProbe, entry: Mapping[str, Any]) -> Iterator[str]:
    for name in entry:
        if name != "probe" and entry[name] not in (None, {}) and name not in _USES[probe.probe]:
            others = [other for other, used in _USES.items() if name in used]
            if entry[name] != BiasProbe.model_fields[name].default:
                yield f"{name}: {probe.probe} has no use for it, but {join_words(others, 'and')}; leave it out"


def _missing(probe: BiasProbe) -> Iterator[str]:
    if probe.probe == PAIRS and probe.file is None:
        yield "file is missing: the pairs, as csv or jsonl"
    if probe.probe == SWAPS and probe.language is None:
        yield "language is missing, such as en or pt: that of the terms"
    if probe.probe != GROUPS:
        return
    if probe.only_groups is not None and len(set(probe.only_groups)) < 2:
        yield "only_groups: name two at least, to be compared"
    if (probe.file is None) == (probe.column is None):
        yield "give a file of cases, or the column of the dataset that holds the groups: one of the two"
    elif probe.file is not None and probe.language is None:
        yield "language is missing: that of the cases, which must be one of the model's"
    if probe.file is not None and not probe.hateful_labels:
        yield "hateful_label is missing: which label(s) of the model count as hateful"
