"""What the installed transformers knows about a family of models, read from its source without importing it.

Importing transformers' Auto classes takes seconds; parsing the two files that list them takes hundredths of one.
"""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Family:
    """A family: the Auto classes that load it, the keys of its configuration by their common names, and its defaults.

    All are empty for a family that the installed transformers does not have.
    """

    model_type: str
    auto_classes: frozenset[str] = frozenset()
    aliases: Mapping[str, str] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_known(self) -> bool:
        """Tell whether transformers has this family."""
        return bool(self.auto_classes)


@cache
def find_family(model_type: str) -> Family:
    """Return what transformers knows about a family by the `model_type` of its configuration."""
    loaders = frozenset(auto for auto, families in _auto_classes().items() if model_type in families)
    if not loaders:
        return Family(model_type)
    root = _transformers_folder()
    names = _pairs(_parsed(root / "models/auto/auto_mappings.py"))
    module = names["SPECIAL_MODEL_TYPE_TO_MODULE_NAME"].get(model_type, model_type.replace("-", "_"))
    class_name = names["CONFIG_MAPPING_NAMES"].get(model_type)  # old names of a family are not in this table
    path = root / "models" / module / f"configuration_{module}.py"
    return Family(model_type, loaders, *(_settings(path, class_name) if class_name else ()))


@cache
def _auto_classes() -> Mapping[str, frozenset[str]]:
    """Return the families that each Auto class of transformers loads."""
    tree = _parsed(_transformers_folder() / "models/auto/modeling_auto.py")
    names, found = _pairs(tree), {}
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            mapping = _assigned(node).get("_model_mapping")
            if isinstance(mapping, ast.Name):
                found[node.name] = frozenset(names.get(f"{mapping.id}_NAMES", {}))
    return found


def _pairs(tree: ast.Module) -> dict[str, dict[str, Any]]:
    """Return the module's tables that are written as NAME = OrderedDict([(key, value), …])."""
    found = {}
    for name, value in _assigned(tree).items():
        if isinstance(value, ast.Call) and value.args and isinstance(value.args[0], ast.List):
            entries = [entry for entry in value.args[0].elts if isinstance(entry, ast.Tuple)]
            found[name] = dict(map(_literal, entries))
    return found


def _settings(path: Path, class_name: str) -> tuple[dict[str, str], dict[str, Any]]:
    """Return `attribute_map` and the default values of a configuration class, with what it inherits in its file."""
    if not path.is_file():
        return {}, {}
    classes = {node.name: node for node in _parsed(path).body if isinstance(node, ast.ClassDef)}
    aliases: dict[str, str] = {}
    defaults: dict[str, Any] = {}
    lineage = [class_name]
    while (node := classes.get(lineage[-1])) and node.bases and isinstance(node.bases[0], ast.Name):
        lineage.append(node.bases[0].id)
    for name in reversed([name for name in lineage if name in classes]):
        for key, value in _assigned(classes[name]).items():
            try:
                literal = ast.literal_eval(value)
            except ValueError:
                continue
            if key == "attribute_map":
                aliases |= literal
            else:
                defaults[key] = literal
    return aliases, defaults


def _assigned(node: ast.Module | ast.ClassDef) -> dict[str, ast.expr]:
    found: dict[str, ast.expr] = {}
    for line in node.body:
        if isinstance(line, ast.Assign) and isinstance(line.targets[0], ast.Name):
            found[line.targets[0].id] = line.value
        elif isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name) and line.value is not None:
            found[line.target.id] = line.value
    return found


def _literal(entry: ast.Tuple) -> tuple[str, Any]:
    key, value = entry.elts
    return ast.literal_eval(key), ast.literal_eval(value)


@cache
def _parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _transformers_folder() -> Path:
    spec = importlib.util.find_spec("transformers")  # locates, does not import
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent
