"""Every key of a recipe by its path, and the nearest one to a key that does not exist."""

import difflib
import typing
from collections.abc import Iterator, Mapping
from functools import cache

from pydantic.fields import FieldInfo

from finetune.recipe.kinds import Section
from finetune.recipe.schema import Recipe
from finetune.text import did_you_mean, join_words

Path = tuple[str, ...]


@cache
def all_leaves() -> Mapping[Path, FieldInfo]:
    """Return every setting by its path: ("training", "learning_rate") → its field."""
    return dict(_walk(Recipe, ()))


@cache
def all_sections() -> Mapping[Path, type[Section]]:
    """Return every section by its path; ("dataset", "splits") is one inside another."""
    return dict(_walk_sections(Recipe, ()))


def section_of(field: FieldInfo) -> type[Section] | None:
    """Return the section that a field holds, or None for a setting."""
    kind = field.annotation
    return kind if isinstance(kind, type) and issubclass(kind, Section) else None


def takes_mapping(path: Path) -> bool:
    """Tell whether a setting is itself a mapping with free keys, as dataset.columns is."""
    kind = all_leaves()[path].annotation
    return any(typing.get_origin(part) is dict for part in (kind, *typing.get_args(kind)))


def leaf_of(path: Path) -> Path | None:
    """Return the setting that a path lies in: dataset.columns.text lies in dataset.columns."""
    return next((path[:end] for end in range(len(path), 0, -1) if path[:end] in all_leaves()), None)


def dotted(path: Path) -> str:
    """Return a path as people write it: training.learning_rate."""
    return ".".join(path)


def suggest_key(path: Path, extra: Mapping[str, Path]) -> str | None:
    """Return the words for the key that was probably meant, or None.

    Looked for in the same section first, then in the whole recipe; `extra` are the accepted aliases.
    """
    parent, name = path[:-1], path[-1]
    here = [key[-1] for key in (*all_leaves(), *all_sections()) if key[:-1] == parent]
    elsewhere: dict[str, list[Path]] = {}
    for key in all_leaves():
        if key[:-1] != parent:
            elsewhere.setdefault(key[-1], []).append(key)
    if name in elsewhere:
        return join_words(dotted(key) for key in elsewhere[name])
    if near := did_you_mean(name, here):
        return near
    if name in extra:
        return dotted(extra[name])
    # Far from where it was written, only a key that is nearly the same can have been meant.
    if strong := difflib.get_close_matches(name, elsewhere, n=1, cutoff=0.75):
        return join_words(dotted(key) for key in elsewhere[strong[0]])
    near = did_you_mean(name, extra)
    return dotted(extra[near]) if near else None


def _walk(section: type[Section], prefix: Path) -> Iterator[tuple[Path, FieldInfo]]:
    for name, field in section.model_fields.items():
        inner = section_of(field)
        if inner is None:
            yield (*prefix, name), field
        else:
            yield from _walk(inner, (*prefix, name))


def _walk_sections(section: type[Section], prefix: Path) -> Iterator[tuple[Path, type[Section]]]:
    for name, field in section.model_fields.items():
        if inner := section_of(field):
            yield (*prefix, name), inner
            yield from _walk_sections(inner, (*prefix, name))
