"""The recipe's keys for people (markdown) and for editors (JSON Schema), both from schema.py."""

import json
from typing import Any

from pydantic.fields import FieldInfo

from finetune.recipe.aliases import ALIASES
from finetune.recipe.expected import expected
from finetune.recipe.keys import Path, all_leaves, all_sections, dotted
from finetune.recipe.schema import Recipe

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def recipe_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of a recipe."""
    schema = Recipe.model_json_schema()
    _drop_titles(schema)
    said = schema["$defs"]["Peft"]["description"]
    schema["properties"]["peft"] = {"anyOf": [{"$ref": "#/$defs/Peft"}, {"type": "null"}], "description": said}
    return {"$schema": DIALECT, "title": "finetune recipe", **schema}


def recipe_schema_text() -> str:
    """Return the JSON Schema as `finetune schema` prints it."""
    return json.dumps(recipe_schema(), indent=2, ensure_ascii=False) + "\n"


def recipe_reference() -> str:
    """Return every key with its type, default and meaning as markdown, for docs/recipe.md."""
    parts = [_table((), (Recipe.__doc__ or "").strip())]
    parts += [_table(path, (section.__doc__ or "").strip()) for path, section in all_sections().items()]
    return "\n\n".join([*parts, _alias_table()]) + "\n"


def _table(section: Path, summary: str) -> str:
    title = f"`{dotted(section)}`" if section else "Top level"
    lines = [f"## {title}", "", summary, "", "| key | value | default | meaning |", "|---|---|---|---|"]
    for path, field in all_leaves().items():
        if path[:-1] == section:
            lines.append(f"| `{path[-1]}` | {_cell(expected(field))} | {_default(field)} | {_meaning(field)} |")
    return "\n".join(lines)


def _meaning(field: FieldInfo) -> str:
    words = field.description or ""
    if field.examples:
        words += f" Example: `{json.dumps(field.examples[0], ensure_ascii=False)}`"
    return _cell(words)


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "(required)"
    value = field.get_default(call_default_factory=True, validated_data={})
    return f"`{value}`" if isinstance(value, str) else f"`{json.dumps(value)}`"


def _alias_table() -> str:
    lines = ["## Names from other tools", "", "Accepted with a note, at top level or in their section.", ""]
    lines += ["| name | is read as |", "|---|---|"]
    return "\n".join([*lines, *(f"| `{name}` | `{dotted(alias.path)}` |" for name, alias in ALIASES.items())])


def _cell(words: str) -> str:
    return words.replace("|", "\\|").replace("<", "&lt;")


def _drop_titles(schema: Any) -> None:
    """Remove the titles that pydantic derives from names: they say nothing and fill an editor's tooltips."""
    if isinstance(schema, dict):
        if isinstance(schema.get("title"), str):
            del schema["title"]
        for value in schema.values():
            _drop_titles(value)
    elif isinstance(schema, list):
        for value in schema:
            _drop_titles(value)
