"""Write tables into the README between markers, and figures into JSON files."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
README = FOLDER / "README.md"
RESULTS = FOLDER / "results"


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table: the first column aligned left, the others right."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def replace_between_markers(text: str, name: str, content: str) -> str:
    """Return the text with `content` between `<!-- name: begin -->` and `<!-- name: end -->`.

    Raises ValueError when a marker is missing.
    """
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    before, found_begin, rest = text.partition(begin)
    _, found_end, after = rest.partition(end)
    if not found_begin or not found_end:
        raise ValueError(f"the markers {begin} and {end} are not both there")
    return f"{before}{begin}\n{content}\n{end}{after}"


def publish(name: str, result: Mapping[str, Any], content: str) -> None:
    """Write results/<name>.json, and the content into the README."""
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    README.write_text(replace_between_markers(README.read_text(encoding="utf-8"), name, content), encoding="utf-8")


def read_published(name: str) -> dict[str, Any]:
    """Return what results/<name>.json holds, nothing when there is none."""
    path = RESULTS / f"{name}.json"
    published: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return published
