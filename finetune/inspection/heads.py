"""What the heads of a model attend to, as text: a heat map over the tokens, and the habit of every head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from finetune.errors import FinetuneError
from finetune.runs.tables import Column, shorten, text_table, text_width

_LEVELS = (0.05, 0.15, 0.35, 0.6)
_BLOCKS, _ASCII = " ░▒▓█", " .:*#"
_TOKEN_WIDTH = 14
_CLEAR = 0.3  # a head with less for each of the places below looks at many tokens

Square = Sequence[Sequence[float]]


def describe_heads(heads: Mapping[str, Any], layer: int | None, blocks: bool) -> str:
    """Return the attention over a sentence as text, `layer` (1-based; None: the last) as a heat map.

    Raises FinetuneError for a layer that the model does not have.
    """
    parts = [_part(name, layers, heads["tokens"], layer, blocks) for name, layers in heads["parts"].items()]
    return "\n\n".join(parts)


def _part(name: str, layers: Sequence[Sequence[Square]], tokens: list[str], layer: int | None, blocks: bool) -> str:
    if layer is not None and not 1 <= layer <= len(layers):
        raise FinetuneError(f"--layer {layer}: the model has layers 1 to {len(layers)}", "Leave it out for the last.")
    number = layer or len(layers)
    of = "" if name == "self" else f" ({name})"
    title = f"attention of layer {number}{of}, mean of {len(layers[0])} heads: a row looks, a column is seen"
    table = [Column("layer", [str(index) for index in range(1, len(layers) + 1)], right=True)]
    for head in range(len(layers[0])):
        table.append(Column(f"head {head + 1}", [habit(one[head], name == "cross") for one in layers]))
    legend = "  ".join(
        f"{mark} {level:.0%}" for mark, level in zip((_BLOCKS if blocks else _ASCII)[1:], _LEVELS, strict=True)
    )
    return "\n".join([title, *heat_map(mean_of(layers[number - 1]), tokens, blocks), f"from {legend}", "",
                      "where each head looks most, and its mean share there", text_table(table)])  # fmt: skip


def mean_of(heads: Sequence[Square]) -> list[list[float]]:
    """Return the mean of the heads of a layer."""
    return [[sum(values) / len(heads) for values in zip(*rows, strict=True)] for rows in zip(*heads, strict=True)]


def heat_map(square: Square, tokens: Sequence[str], blocks: bool) -> list[str]:
    """Return a line for each token: its name, and a shade for its attention to every token."""
    marks = _BLOCKS if blocks else _ASCII
    names = [shorten(token, _TOKEN_WIDTH) for token in tokens]
    width = max(map(text_width, names))
    return [
        f"{' ' * (width - text_width(name))}{name} |"
        + "".join(marks[sum(value >= level for level in _LEVELS)] * 2 for value in row)
        + "|"
        for name, row in zip(names, square, strict=True)
    ]


def habit(square: Square, is_cross: bool = False) -> str:
    """Return where a head looks most: itself, previous, next, first or last, with its mean share; else broad."""
    last = len(square) - 1
    places = {
        "itself": [row[i] for i, row in enumerate(square)],
        "previous": [square[i][i - 1] for i in range(1, last + 1)],
        "next": [square[i][i + 1] for i in range(last)],
        "first": [row[0] for row in square],
        "last": [row[-1] for row in square],
    }
    if is_cross:
        places = {name.replace("itself", "same place"): places[name] for name in ("itself", "first", "last")}
    shares = {name: sum(values) / len(values) for name, values in places.items() if values}
    best = max(shares, key=lambda name: shares[name])
    return f"{best} {shares[best]:.0%}" if shares[best] >= _CLEAR else "broad"
