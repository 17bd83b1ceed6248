"""Masks as small drawings for a terminal: a row for the token that looks, a column for the one that is seen."""

from __future__ import annotations

from collections.abc import Sequence

from finetune.inspection.masks import CROSS, DRAWN_WINDOW, Mask

TOKENS, SOURCE_TOKENS = 8, 6
_BLOCKS, _ASCII = ("██", "··"), ("##", "..")


def draws_blocks(encoding: str | None) -> bool:
    """Tell whether a terminal's encoding has the block characters."""
    try:
        "█·→".encode(encoding or "ascii")
    except (LookupError, UnicodeEncodeError):
        return False
    return True


def drawn(masks: Sequence[Mask], blocks: bool, width: int = 100) -> str:
    """Return the masks side by side, as many as the width takes, each under its title."""
    panels = [_panel(mask, blocks) for mask in masks]
    rows: list[list[list[str]]] = []
    for panel in panels:
        taken = sum(len(other[0]) + 4 for other in rows[-1]) if rows else width
        if taken + len(panel[0]) > width:
            rows.append([])
        rows[-1].append(panel)
    return "\n\n".join("\n".join("    ".join(parts).rstrip() for parts in zip(*row, strict=True)) for row in rows)


def cells(mask: Mask) -> list[list[bool]]:
    """Return the drawing of a mask as rows of what is allowed; a window is drawn DRAWN_WINDOW tokens wide."""
    seen = SOURCE_TOKENS if mask.pattern == CROSS else TOKENS
    return [[mask.allows(row, column, DRAWN_WINDOW) for column in range(seen)] for row in range(TOKENS)]


def _panel(mask: Mask, blocks: bool) -> list[str]:
    on, off = _BLOCKS if blocks else _ASCII
    title = mask.title if blocks else mask.title.replace("→", "->")
    lines = [title, *("".join(on if allowed else off for allowed in row) for row in cells(mask))]
    width = max(map(len, lines))
    return [line.ljust(width) for line in lines]
