"""Read YAML by the rules of the 1.2 core schema, keeping the line of every value.

PyYAML follows YAML 1.1, where `no` is false, `2e-5` is a text and `010` is eight. Only its parser is used here;
what a plain scalar means is decided by `core_scalar`. A recipe is a flat file of settings, so anchors, merge
keys and tags are refused: they are how a small file grows into a huge one or runs code.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

MAX_BYTES = 256 * 1024
MAX_DEPTH = 12

_NULL = re.compile(r"~|null|Null|NULL|")
_TRUE = re.compile(r"true|True|TRUE")
_FALSE = re.compile(r"false|False|FALSE")
_INTEGER = re.compile(r"[-+]?[0-9]+")
_PREFIXED = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_INFINITY = re.compile(r"[-+]?\.(inf|Inf|INF)")
_NOT_A_NUMBER = re.compile(r"\.(nan|NaN|NAN)")
_LONGEST_NUMBER = 400  # Python refuses to read integers of more than 4,300 digits; no setting needs 400


@dataclass(frozen=True)
class Node:
    """A value and its line (1-based); in a mapping the line is that of the key.

    `value` is a scalar, a list of Node or a dict of str to Node.
    """

    value: Any
    line: int

    def plain(self) -> Any:
        """Return the value without lines."""
        if isinstance(self.value, dict):
            return {key: child.plain() for key, child in self.value.items()}
        if isinstance(self.value, list):
            return [child.plain() for child in self.value]
        return self.value


@dataclass(frozen=True)
class Fault:
    """Something that is wrong with the YAML itself."""

    line: int
    message: str


class _Stop(Exception):
    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.fault = Fault(line, message)


def read_yaml(text: str) -> tuple[Node | None, list[Fault]]:
    """Return the root of the one document in `text` (None when it is empty or cannot be read) and what is wrong.

    Keys that are repeated are reported and the first is kept; any other fault ends the reading.
    """
    faults: list[Fault] = []
    try:
        return _read_document(_events(text), faults), faults
    except _Stop as stop:
        return None, [*faults, stop.fault]


def core_scalar(text: str) -> Any:
    """Return what a plain scalar means in the YAML 1.2 core schema: null, bool, int, float or the text itself."""
    if _NULL.fullmatch(text):
        return None
    if _TRUE.fullmatch(text) or _FALSE.fullmatch(text):
        return text[0] in "tT"
    if len(text) > _LONGEST_NUMBER:
        return text
    if _INTEGER.fullmatch(text):
        return int(text)
    if _PREFIXED.fullmatch(text):
        return int(text, 0)
    if _FLOAT.fullmatch(text):
        return float(text)
    if _INFINITY.fullmatch(text):
        return float(text.replace(".", ""))
    return float("nan") if _NOT_A_NUMBER.fullmatch(text) else text


def _events(text: str) -> Iterator[yaml.Event]:
    try:
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            line = _line(event)
            anchor = getattr(event, "anchor", None)
            if isinstance(event, yaml.AliasEvent) or anchor:
                raise _Stop(
                    line, f"anchors and aliases (&{anchor}, *{anchor}) are not part of a recipe; write the value out"
                )
            tag = getattr(event, "tag", None)
            if tag not in (None, "!"):
                raise _Stop(line, f"tags ({tag}) are not part of a recipe; write the plain value")
            yield event
    except yaml.MarkedYAMLError as error:
        raise _Stop(_error_line(error), _error_words(error, text)) from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise _Stop(line, f"the character U+{ord(text[error.position]):04X} is not allowed in YAML") from error


def _line(event: yaml.Event) -> int:
    return event.start_mark.line + 1 if event.start_mark else 1


def _error_line(error: yaml.MarkedYAMLError) -> int:
    mark = error.problem_mark or error.context_mark
    return mark.line + 1 if mark else 1


def _error_words(error: yaml.MarkedYAMLError, text: str) -> str:
    lines = text.splitlines()
    number = _error_line(error)
    line = lines[number - 1] if number <= len(lines) else ""
    problem = error.problem or "cannot be read"
    if "\\t" in problem or line.lstrip(" ").startswith("\t"):
        return "not YAML: a tab cannot indent; use spaces"
    if re.search(r"(^|[\s:\[,-])[*&%@`]\S*", line) and "alphabetic" in problem:
        return "not YAML: a value that begins with * or & must be in quotes, as in '*.csv'"
    above = lines[number - 2].partition("#")[0].strip() if 1 < number <= len(lines) + 1 else ""
    if "mapping values are not allowed" in problem and above and ":" not in above and not above.startswith("-"):
        return f"not YAML: a colon is missing on the line above ({above})"
    if "mapping values are not allowed" in problem:
        return "not YAML: a second ': ' in this line, or the wrong indentation; put texts that hold ': ' in quotes"
    if "could not find expected ':'" in problem or "simple key" in problem:
        return "not YAML: a colon is missing after the key"
    if "expected <block end>" in problem:
        return "not YAML: the indentation does not fit the lines above"
    return f"not YAML: {problem}"


def _read_document(events: Iterator[yaml.Event], faults: list[Fault]) -> Node | None:
    root: Node | None = None
    for event in events:
        line = _line(event)
        if isinstance(event, yaml.DocumentStartEvent):
            if root is not None:
                raise _Stop(line, "a second document begins here (---); a recipe is one document")
        elif not isinstance(event, (yaml.StreamStartEvent, yaml.StreamEndEvent, yaml.DocumentEndEvent)):
            root = _read_node(event, events, faults, depth=0)
    return root


def _read_node(event: yaml.Event, events: Iterator[yaml.Event], faults: list[Fault], depth: int) -> Node:
    line = _line(event)
    if depth > MAX_DEPTH:
        raise _Stop(line, f"nested more than {MAX_DEPTH} levels deep; a recipe needs four")
    if isinstance(event, yaml.ScalarEvent):
        return Node(core_scalar(event.value) if event.implicit[0] else event.value, line)
    if isinstance(event, yaml.SequenceStartEvent):
        items = []
        while not isinstance(item := next(events), yaml.SequenceEndEvent):
            items.append(_read_node(item, events, faults, depth + 1))
        return Node(items, line)
    return Node(_read_mapping(events, faults, depth), line)


def _read_mapping(events: Iterator[yaml.Event], faults: list[Fault], depth: int) -> dict[str, Node]:
    entries: dict[str, Node] = {}
    while not isinstance(key := next(events), yaml.MappingEndEvent):
        line = _line(key)
        if not isinstance(key, yaml.ScalarEvent):
            raise _Stop(line, "a key must be a word, not a list or a mapping")
        name = str(key.value)
        if not name.strip() or not name.isprintable():
            raise _Stop(line, f"a key must be a word, found {name!r}")
        if name == "<<" and key.implicit[0]:
            raise _Stop(line, "merge keys (<<) are not part of a recipe; write the settings out")
        value = _read_node(next(events), events, faults, depth + 1)
        if name in entries:
            faults.append(Fault(line, f"the key {name} is already on line {entries[name].line}; keep one"))
        else:
            entries[name] = Node(value.value, line)
    return entries
