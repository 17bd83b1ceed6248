"""The section `space` of a sweep file: recipe keys with their values, each checked against the recipe's own rules."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from finetune.recipe.aliases import ALIASES, find_alias
from finetune.recipe.expected import found
from finetune.recipe.keys import Path, all_leaves, all_sections, dotted, leaf_of, suggest_key, takes_mapping
from finetune.recipe.load import check_recipe
from finetune.recipe.problems import COMMAND_LINE, RECIPE, Place, Problem
from finetune.recipe.yaml_lines import Node
from finetune.sweep.space import Choices, Parameter, Range
from finetune.text import did_you_mean, join_words, nearest_or_all

_RANGE = ("low", "high", "log", "step", "values", "when")
# What the sweep itself decides, or what would make its trials incomparable.
_NOT_VARIED: Mapping[str, str] = {
    "name": "the sweep names its runs",
    "tags": "the sweep tags its runs",
    "output_dir": "all trials lie in one folder",
    "training.seed": "write seeds: [1, 2, 3], at the top of the sweep",
    "training.seeds": "write seeds: [1, 2, 3], at the top of the sweep",
    "emissions.max_energy_kwh": "write max_energy_kwh at the top of the sweep",
    "emissions.max_emissions_g": "write max_emissions_g at the top of the sweep",
    "evaluation.metrics": "trials are judged by the same metrics",
}


def read_space(entries: Mapping[str, Node], recipe: str | None) -> tuple[tuple[Parameter, ...], list[Problem]]:
    """Return the parameters in the order of the file, and what is wrong; `recipe` is the recipe that they vary."""
    parameters: dict[str, Parameter] = {}
    problems: list[Problem] = []
    for name, node in entries.items():
        key, fault = _recipe_key(name, node)
        parameter = None if fault else _read_parameter(key, node, parameters, problems)
        if fault:
            problems.append(_problem(name, node, fault))
        elif key in parameters:
            problems.append(_problem(name, node, f"varies the same as {key} above; keep one"))
        elif parameter is not None:
            parameters[key] = parameter
            if recipe is not None:
                problems += _value_faults(parameter, name, node, recipe)
    return tuple(parameters.values()), problems


def _problem(name: str, node: Node, message: str) -> Problem:
    return Problem(Place(RECIPE, node.line), f"space.{name}", message)


def _recipe_key(name: str, node: Node) -> tuple[str, str | None]:
    """Return the recipe key that is meant, and what is wrong with it."""
    path: Path = tuple(name.split("."))
    alias = find_alias(path)
    key = dotted(alias.path) if alias and path not in all_leaves() else name
    path = tuple(key.split("."))
    if reason := _NOT_VARIED.get(key):
        return key, f"cannot be varied: {reason}"
    if path in all_sections():
        inner = isinstance(node.value, dict) and not set(node.value) & set(_RANGE)
        return key, f"write the keys of the section dotted, as {key}.…: […]" if inner else None
    leaf = leaf_of(path)
    if path in all_leaves() or (leaf and takes_mapping(leaf)):
        return key, None
    near = suggest_key(path, {alias: found.path for alias, found in ALIASES.items()})
    return key, "not a recipe key" + (f"; did you mean {near}?" if near else "; finetune schema lists them")


def _read_parameter(
    key: str, node: Node, earlier: Mapping[str, Parameter], problems: list[Problem]
) -> Parameter | None:
    """Return one parameter; what is wrong goes to `problems`."""
    name = key
    if not isinstance(node.value, dict):
        values = node.plain() if isinstance(node.value, list) else [node.plain()]
        return _with_choices(name, node, values, {}, problems)
    before = len(problems)
    for word, child in node.value.items():
        if word not in _RANGE:
            problems.append(_problem(f"{name}.{word}", child, f"unknown; {nearest_or_all(word, _RANGE)}"))
    when = _read_when(name, node.value.get("when"), earlier, problems)
    if len(problems) > before:
        return None
    if "values" in node.value:
        child = node.value["values"]
        extra = set(node.value) & {"low", "high", "log", "step"}
        if extra or not isinstance(child.value, list):
            message = f"values goes without {join_words(sorted(extra))}" if extra else "expected a list"
            problems.append(_problem(f"{name}.values", child, message))
            return None
        return _with_choices(name, node, child.plain(), when, problems)
    return _with_range(name, node, when, problems)


def _with_choices(
    name: str, node: Node, values: list[Any], when: Mapping[str, tuple[Any, ...]], problems: list[Problem]
) -> Parameter | None:
    texts = [json.dumps(value, sort_keys=True) for value in values]
    twice = next((text for place, text in enumerate(texts) if text in texts[:place]), None)
    if not values or twice is not None:
        problems.append(_problem(name, node, f"has {twice} twice" if values else "expected at least one value"))
        return None
    return Parameter(name, Choices(tuple(values)), when)


def _with_range(
    name: str, node: Node, when: Mapping[str, tuple[Any, ...]], problems: list[Problem]
) -> Parameter | None:
    faults = list(_range_faults(name, node))
    problems += faults
    if faults:
        return None
    plain: dict[str, Any] = node.plain()
    return Parameter(name, Range(plain["low"], plain["high"], bool(plain.get("log")), plain.get("step")), when)


def _range_faults(name: str, node: Node) -> Iterator[Problem]:
    entries = node.value
    for word in ("low", "high", "step"):
        if word not in entries:
            if word != "step":
                yield _problem(name, node, f"{word} is missing: a range has low and high, anything else is values: […]")
        elif isinstance(entries[word].value, bool) or not isinstance(entries[word].value, int | float):
            message = f"expected a number, found {found(entries[word].plain())}"
            yield _problem(f"{name}.{word}", entries[word], message)
    if "log" in entries and not isinstance(entries["log"].value, bool):
        yield _problem(f"{name}.log", entries["log"], f"expected true or false, found {found(entries['log'].plain())}")
    plain: dict[str, Any] = node.plain()
    low, high, step = (plain.get(word) for word in ("low", "high", "step"))
    if not (isinstance(low, int | float) and isinstance(high, int | float)):
        return
    if low >= high:
        yield _problem(name, node, f"low {low:g} must lie below high {high:g}")
    if entries.get("log") is not None and entries["log"].value is True:
        if low <= 0:
            yield _problem(f"{name}.low", entries["low"], "a logarithmic range begins above 0")
        if step is not None:
            yield _problem(f"{name}.step", entries["step"], "goes without log: true")
    if isinstance(step, int | float) and step <= 0:
        yield _problem(f"{name}.step", entries["step"], "must be above 0")


def _read_when(
    name: str, node: Node | None, earlier: Mapping[str, Parameter], problems: list[Problem]
) -> dict[str, tuple[Any, ...]]:
    """Return the condition of a parameter: earlier keys with the values, as Optuna stores them, at which it holds."""
    if node is None:
        return {}
    if not isinstance(node.value, dict) or not node.value:
        problems.append(_problem(f"{name}.when", node, "expected a mapping, as {model.freeze: [none]}"))
        return {}
    found_when = {}
    for key, child in node.value.items():
        parent = earlier.get(key)
        values = child.plain() if isinstance(child.value, list) else [child.plain()]
        if parent is None:
            near = did_you_mean(key, earlier)
            said = f"; did you mean {near}?" if near else ""
            problems.append(_problem(f"{name}.when", child, f"{key} is no key of the space above this one{said}"))
        elif not isinstance(parent.values, Choices):
            problems.append(_problem(f"{name}.when", child, f"{key} is a range; a condition needs a list of values"))
        elif unknown := [value for value in values if value not in parent.values.values]:
            shown, all_values = json.dumps(unknown[0]), join_words(map(json.dumps, parent.values.values), "and")
            problems.append(_problem(f"{name}.when", child, f"{key} is never {shown}; its values are {all_values}"))
        else:
            found_when[key] = Choices(tuple(values)).words
    return found_when


def _value_faults(parameter: Parameter, name: str, node: Node, recipe: str) -> Iterator[Problem]:
    """Yield what the recipe's rules say of each value alone; what several keys must agree on is seen in the trial."""
    values = parameter.values
    path = tuple(parameter.key.split("."))
    for value in values.values if isinstance(values, Choices) else (values.low, values.high):
        for problem in check_recipe(recipe, [f"{parameter.key}={json.dumps(value)}"]).problems:
            own = tuple(problem.key.partition(" ")[0].split("."))[: len(path)] == path
            if problem.place.origin == COMMAND_LINE and own and problem.message.startswith(("expected", "unknown")):
                yield _problem(name, node, problem.message)
                break
