"""The `peft` section: which keys it has, which of them belong to which method, and what they must agree on."""

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from finetune.recipe.kinds import Count, Section, Text
from finetune.text import join_words

if TYPE_CHECKING:
    from finetune.recipe.schema import Recipe

ALL_LINEAR = "all-linear"


class Peft(Section):
    """Adapters: small additions that are trained with the head while the checkpoint stays frozen, by peft's names."""

    method: Literal["lora", "ia3"] | None = Field(
        default=None,
        description=(
            "lora adds a product of two thin matrices to linear layers, ia3 scales their outputs; null trains "
            "the model itself."
        ),
    )
    r: Count | None = Field(default=None, description="Rank: the width of the thin matrices. null: 8 (lora).")
    lora_alpha: Count | None = Field(
        default=None,
        description="What is added counts lora_alpha / r times. null: twice r (lora).",
    )
    lora_dropout: Annotated[float, Field(ge=0, lt=1)] | None = Field(
        default=None, description="Dropout before the thin matrices. null: 0.05 (lora)."
    )
    use_dora: bool = Field(default=False, description="Learn length and direction of the weights apart (DoRA; lora).")
    use_rslora: bool = Field(
        default=False, description="Count lora_alpha / √r times instead, which suits high ranks (lora)."
    )
    target_modules: Text | Annotated[list[Text], Field(min_length=1)] | None = Field(
        default=None,
        description=(
            "Which layers get an adapter: all-linear, a list of names or ends of names, or a regular expression for "
            "whole names. null: all-linear; for ia3 peft's choice for the family, where it has one."
        ),
        examples=[["query", "value"]],
    )
    feedforward_modules: Annotated[list[Text], Field(min_length=1)] | None = Field(
        default=None,
        description="Those of target_modules that are scaled at their input instead of their output (ia3).",
    )


# The keys that only one method has; method and target_modules belong to all.
_KEYS: Mapping[str, tuple[str, ...]] = {
    "lora": ("r", "lora_alpha", "lora_dropout", "use_dora", "use_rslora"),
    "ia3": ("feedforward_modules",),
}
# Methods that people ask for, and why they are refused.
REFUSED: Mapping[str, str] = {
    "dora": "write method: lora and use_dora: true",
    "rslora": "write method: lora and use_rslora: true",
    "qlora": "weights in 4 bits are not available in this version; write method: lora",
    "adalora": "its ranks change while it trains, which this version does not do",
    **dict.fromkeys(
        ("prefix-tuning", "prefix_tuning", "prompt-tuning", "prompt_tuning", "p-tuning", "p_tuning", "bottleneck"),
        "it cannot be merged into the weights",
    ),
}

Fault = tuple[tuple[str, ...], str, tuple[tuple[str, ...], ...]]  # key, what is wrong, keys also looked at

METHOD, TARGETS = ("peft", "method"), ("peft", "target_modules")
FREEZE, UNFREEZING = ("model", "freeze"), ("training", "gradual_unfreezing")


def adapter_defaults(peft: Peft) -> dict[tuple[str, ...], Any]:
    """Return what the keys of the chosen method are when they are left out or null."""
    if peft.method != "lora":
        return {}
    return {
        ("peft", "r"): 8,
        ("peft", "lora_alpha"): 2 * (peft.r or 8),
        ("peft", "lora_dropout"): 0.05,
        TARGETS: ALL_LINEAR,
    }


def adapter_faults(recipe: "Recipe") -> Iterator[Fault]:
    """Yield what is wrong between the keys of peft, model.freeze and training.gradual_unfreezing."""
    peft = recipe.peft
    blank = Peft()
    given = [name for name in Peft.model_fields if getattr(peft, name) != getattr(blank, name)]
    if given and peft.method is None:
        owners = [method for method, names in _KEYS.items() if set(given) & set(names)] or list(_KEYS)
        yield ("peft", given[0]), f"needs peft.method; write method: {join_words(owners)}", (METHOD,)
        return
    for method, names in _KEYS.items():
        for name in (name for name in given if name in names and method != peft.method):
            yield ("peft", name), f"a key of {method}, but peft.method is {peft.method}; leave it out", (METHOD,)
    if isinstance(peft.target_modules, str) and (fault := _pattern_fault(peft.target_modules)):
        yield TARGETS, f"not a regular expression: {fault}; or give a list of names", ()
    if recipe.model.freeze == "backbone":
        if peft.method is not None:
            yield FREEZE, "backbone leaves no layer for adapters; leave it out, or leave out peft", (METHOD,)
        if recipe.training.gradual_unfreezing is not None:
            yield UNFREEZING, "there is nothing to unfreeze, since model.freeze is backbone", (FREEZE,)
    if peft.method is not None and recipe.training.gradual_unfreezing is not None:
        yield UNFREEZING, "peft keeps the layers frozen to the end; leave one of the two out", (METHOD,)


def adapter_notes(recipe: "Recipe", rate_is_given: bool) -> Iterator[str]:
    """Yield what is allowed with adapters but should be known."""
    if recipe.peft.method is None:
        return
    rate = recipe.training.learning_rate
    if not rate_is_given:
        yield f"training.learning_rate: {rate:g} suits whole models; adapters usually take ten times as much"
    if recipe.model.init == "scratch":
        yield f"peft.method: {recipe.peft.method} keeps random weights as they are, since model.init is scratch"
    if recipe.model.freeze == "embeddings":
        yield "model.freeze: embeddings has no effect with peft, which freezes all but adapters and head"


def _pattern_fault(pattern: str) -> str | None:
    try:
        re.compile(pattern)
    except re.error as error:
        return str(error)
    return None
