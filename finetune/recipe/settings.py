"""Turn a recipe file, the command line and the environment into one flat list of settings with their places."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from finetune.recipe.aliases import ALIASES, REMARKS, find_alias
from finetune.recipe.expected import found
from finetune.recipe.keys import Path, all_leaves, all_sections, dotted, leaf_of, suggest_key, takes_mapping
from finetune.recipe.problems import COMMAND_LINE, RECIPE, Place, Problem
from finetune.recipe.yaml_lines import Node, read_yaml
from finetune.text import did_you_mean

COUNTRY, REGION = ("emissions", "country_iso_code"), ("emissions", "region")
ENVIRONMENT: Mapping[str, Path] = {
    "FINETUNE_COUNTRY": COUNTRY,
    "FINETUNE_REGION": REGION,
    "FINETUNE_OUTPUT_DIR": ("output_dir",),
}


@dataclass(frozen=True)
class Setting:
    """One value that somebody gave: `written` is the key as they wrote it, which may be an alias."""

    path: Path
    value: Any
    place: Place
    written: str

    @property
    def shown(self) -> str:
        """Return the key for an error: the real one, after the alias where one was used."""
        return dotted(self.path) if self.written == dotted(self.path) else f"{self.written} ({dotted(self.path)})"


@dataclass
class Layer:
    """What one source says: its settings, the lines of its sections, what is wrong and what is worth saying."""

    settings: list[Setting] = field(default_factory=list)
    section_places: dict[Path, Place] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def read_file_layer(root: Node) -> Layer:
    """Return what a recipe file says."""
    layer = Layer()
    _read_section(root.value, (), (), RECIPE, layer)
    _refuse_twice(layer)
    return layer


def read_overrides(overrides: Sequence[str]) -> list[Layer]:
    """Return one layer for each `a.b=c` of the command line; a later one wins over an earlier one."""
    return [_read_override(override) for override in overrides]


def read_environment(environment: Mapping[str, str], given: Iterable[Path]) -> Layer:
    """Return what FINETUNE_COUNTRY, FINETUNE_REGION and FINETUNE_OUTPUT_DIR say.

    The region of the environment belongs to its country: it is left out when the recipe names a country itself.
    """
    layer = Layer()
    for name, path in ENVIRONMENT.items():
        value = environment.get(name)
        if not value or (path == REGION and COUNTRY in given):
            continue
        layer.settings.append(Setting(path, value, Place(f"environment variable {name}"), dotted(path)))
    return layer


def merge(layers: Iterable[Layer]) -> dict[Path, Setting]:
    """Return the settings that hold, by path; a later layer wins, whole mappings replace their entries."""
    merged: dict[Path, Setting] = {}
    for layer in layers:
        for setting in layer.settings:
            for path in [path for path in merged if path[: len(setting.path)] == setting.path]:
                del merged[path]
            if setting.path not in all_sections():  # a section that was undone
                merged[setting.path] = setting
    # A mapping that was emptied or null before entries were given below it is those entries.
    for path in [path for path in merged if path[:-1] in merged]:
        merged.pop(path[:-1], None)
    return merged


def as_tree(settings: Iterable[Setting]) -> dict[str, Any]:
    """Return settings as nested mappings, every section present."""
    tree: dict[str, Any] = {}
    for section in all_sections():
        _branch(tree, section)
    for setting in settings:
        _branch(tree, setting.path[:-1])[setting.path[-1]] = setting.value
    return tree


def _branch(tree: dict[str, Any], path: Path) -> dict[str, Any]:
    for name in path:
        tree = tree.setdefault(name, {})
    return tree


def _read_override(override: str) -> Layer:
    layer = Layer()
    key, equals, text = override.partition("=")
    path = tuple(key.strip().split("."))
    if not equals or not all(path):
        layer.problems.append(
            Problem(Place(COMMAND_LINE), "", f"expected key=value, as training.learning_rate=3e-5, found {override!r}")
        )
        return layer
    node, faults = read_yaml(text)
    if faults:
        layer.problems.append(Problem(Place(COMMAND_LINE), dotted(path), faults[0].message))
        return layer
    node = node or Node(None, 0)
    if path in all_leaves() and takes_mapping(path) and isinstance(node.value, dict):
        # A whole mapping on the command line replaces the one in the recipe.
        layer.settings.append(Setting(path, {}, Place(COMMAND_LINE), dotted(path)))
    if path in all_sections() and node.value is None:
        # peft=null undoes the section of the recipe.
        layer.settings.append(Setting(path, {}, Place(COMMAND_LINE), dotted(path)))
        return layer
    for name in reversed(path):
        node = Node({name: node}, 0)
    _read_section(node.value, (), (), COMMAND_LINE, layer)
    return layer


def _read_section(entries: Mapping[str, Node], path: Path, written: Path, origin: str, layer: Layer) -> None:
    for name, node in entries.items():
        _read_key((*path, name), (*written, name), node, origin, layer)


def _read_key(path: Path, written: Path, node: Node, origin: str, layer: Layer) -> None:
    place = _place(origin, node)
    if path in all_sections():
        layer.section_places.setdefault(path, place)
        _enter_section(path, written, node, origin, layer)
    elif path in all_leaves():
        _add(path, written, node, place, layer)
    elif alias := find_alias(path):
        try:
            value = alias.convert(node.plain())
        except ValueError as wanted:
            layer.problems.append(Problem(place, dotted(written), f"expected {wanted}, found {found(node.plain())}"))
            return
        layer.settings.append(Setting(alias.path, value, place, dotted(written)))
        shown = f"{dotted(alias.path)}: {_yaml_word(value)}" if value != node.value else dotted(alias.path)
        layer.notes.append(f"{dotted(written)} is read as {shown}")
    else:
        _refuse_unknown(path, written, node, origin, layer)


def _enter_section(path: Path, written: Path, node: Node, origin: str, layer: Layer) -> None:
    if isinstance(node.value, dict):
        _read_section(node.value, path, written, origin, layer)
    elif node.value is not None:  # a section whose keys are all commented out is empty
        message = f"expected a mapping (indented lines of key: value), found {found(node.plain())}"
        layer.problems.append(Problem(_place(origin, node), dotted(written), message))


def _add(path: Path, written: Path, node: Node, place: Place, layer: Layer) -> None:
    if takes_mapping(path) and isinstance(node.value, dict) and node.value:
        for name, child in node.value.items():
            own_place = _place(place.origin, child)
            layer.settings.append(Setting((*path, name), child.plain(), own_place, dotted((*written, name))))
    else:
        layer.settings.append(Setting(path, node.plain(), place, dotted(written)))


def _refuse_unknown(path: Path, written: Path, node: Node, origin: str, layer: Layer) -> None:
    """Report a key that does not exist; what stands below a misspelt section is still read."""
    place = _place(origin, node)
    sections = [section[-1] for section in all_sections() if section[:-1] == path[:-1]]
    near = did_you_mean(path[-1], sections)
    if near and isinstance(node.value, dict):
        layer.problems.append(Problem(place, dotted(written), f"unknown key; did you mean {near}?"))
        _read_section(node.value, (*path[:-1], near), written, origin, layer)
        return
    known = "unknown key" if len(path) > 1 or "." in path[0] else "unknown key at top level"
    if "." in path[0] and leaf_of(tuple(path[0].split("."))):
        section, _, leaf = path[0].rpartition(".")
        remedy = f"; write {leaf}: inside {section}:"
    elif path[-1] in REMARKS:
        remedy = f"; {REMARKS[path[-1]]}"
    else:
        suggestion = suggest_key(path, {name: alias.path for name, alias in ALIASES.items()})
        remedy = f"; did you mean {suggestion}?" if suggestion else ""
    layer.problems.append(Problem(place, dotted(written), known + remedy))


def _refuse_twice(layer: Layer) -> None:
    first: dict[Path, Setting] = {}
    for setting in layer.settings:
        other = first.setdefault(setting.path, setting)
        if other is not setting:
            message = f"sets the same as {other.written} on line {other.place.line}; keep one"
            layer.problems.append(Problem(setting.place, setting.shown, message))


def _place(origin: str, node: Node) -> Place:
    return Place(origin, node.line if origin == RECIPE else 0)


def _yaml_word(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
