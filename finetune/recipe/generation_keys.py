"""The section generation: the names of transformers' GenerationConfig that a recipe may set, and what they may hold.

A table of our own, since importing transformers takes seconds; a test compares it with GenerationConfig.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from finetune.models.generation import OF_BEAMS, OF_SAMPLING, without_effect
from finetune.recipe.expected import found
from finetune.tasks import all_tasks
from finetune.text import did_you_mean, join_words

if TYPE_CHECKING:
    from finetune.recipe.schema import Recipe

GENERATION = ("generation",)


@dataclass(frozen=True)
class _Kind:
    """What a setting may hold, in words and as a test."""

    words: str
    holds: Callable[[Any], bool]


def _whole(least: int) -> _Kind:
    words = f"a whole number, {least} or more"
    return _Kind(words, lambda value: isinstance(value, int) and not isinstance(value, bool) and value >= least)


def _number(words: str, fits: Callable[[float], bool]) -> _Kind:
    return _Kind(words, lambda value: isinstance(value, int | float) and not isinstance(value, bool) and fits(value))


def _is_ids(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, int) and item >= 0 for item in value)


_YES_OR_NO = _Kind("true or false", lambda value: isinstance(value, bool))
_POSITIVE = _number("a number above 0", lambda value: value > 0)
_SHARE = _number("a number between 0 and 1", lambda value: 0 < value <= 1)
_CUTOFF = _number("a number from 0 to below 1", lambda value: 0 <= value < 1)
_IDS = _Kind("a list of token ids", _is_ids)
_ID_LISTS = _Kind(
    "a list of lists of token ids", lambda value: isinstance(value, list) and all(map(_is_ids, value)) and bool(value)
)

SETTINGS: Mapping[str, _Kind] = {
    "max_new_tokens": _whole(1),
    "min_new_tokens": _whole(0),
    "max_length": _whole(1),
    "min_length": _whole(0),
    "num_beams": _whole(1),
    "early_stopping": _Kind("true, false or never", lambda value: isinstance(value, bool) or value == "never"),
    "length_penalty": _number("a number", lambda value: True),
    "do_sample": _YES_OR_NO,
    "temperature": _POSITIVE,
    "top_k": _whole(0),
    "top_p": _SHARE,
    "min_p": _CUTOFF,
    "typical_p": _SHARE,
    "epsilon_cutoff": _CUTOFF,
    "eta_cutoff": _CUTOFF,
    "repetition_penalty": _POSITIVE,
    "encoder_repetition_penalty": _POSITIVE,
    "no_repeat_ngram_size": _whole(0),
    "encoder_no_repeat_ngram_size": _whole(0),
    "renormalize_logits": _YES_OR_NO,
    "remove_invalid_values": _YES_OR_NO,
    "forced_bos_token_id": _whole(0),
    "forced_eos_token_id": _whole(0),
    "decoder_start_token_id": _whole(0),
    "bad_words_ids": _ID_LISTS,
    "suppress_tokens": _IDS,
    "begin_suppress_tokens": _IDS,
}


def generation_faults(recipe: "Recipe") -> Iterator[tuple[tuple[str, ...], str, tuple[tuple[str, ...], ...]]]:
    """Yield what is wrong with the section: the key, a message, and the other keys that were looked at."""
    given = recipe.generation
    task = all_tasks().get(recipe.task)
    if given is None:
        return
    if task is not None and task.generates is None:
        makers = join_words((name for name, task in all_tasks().items() if task.generates is not None), "and")
        yield GENERATION, f"{task.name} generates no text ({makers} do); leave it out", (("task",),)
        return
    for name, value in given.items():
        key = (*GENERATION, name)
        if name not in SETTINGS:
            near = did_you_mean(name, SETTINGS)
            yield key, f"unknown key; did you mean {near}?" if near else f"unknown key; known: {_known()}", ()
        elif not SETTINGS[name].holds(value):
            yield key, f"expected {SETTINGS[name].words}, found {found(value)}", ()
    for longest, fewest in (("max_new_tokens", "max_length"), ("min_new_tokens", "min_length")):
        if longest in given and fewest in given:
            yield (*GENERATION, fewest), f"given besides generation.{longest}, which counts the same; keep one", ()
    for least, most in (("min_new_tokens", "max_new_tokens"), ("min_length", "max_length")):
        low, high = given.get(least, 0), given.get(most, 0)
        if SETTINGS[least].holds(low) and SETTINGS[most].holds(high) and low > high:
            yield (*GENERATION, least), f"{low} is more than generation.{most}, which is {high}", ()
    # Without the switch it is the checkpoint that says whether texts are sampled: then only its settings tell.
    off = (
        *(OF_SAMPLING if given.get("do_sample") is False else ()),
        *(OF_BEAMS if given.get("num_beams") == 1 else ()),
    )
    yield from (((*GENERATION, name), without_effect(name), ()) for name in off if name in given)


def _known() -> str:
    return join_words(SETTINGS, "and")
