"""The recipes and sweeps that come with the tool."""

from collections.abc import Mapping
from pathlib import Path

from finetune.errors import FinetuneError
from finetune.recipe.lookup import look_up, near_name, neighbours
from finetune.text import nearest_or_all


def shipped_recipes() -> Mapping[str, Path]:
    """Return the shipped recipes by name."""
    return _by_name(_folder())


def shipped_sweeps() -> Mapping[str, Path]:
    """Return the shipped sweeps by name."""
    return _by_name(_folder() / "sweeps")


def shipped_studies() -> Mapping[str, Path]:
    """Return the shipped study files by name."""
    return _by_name(_folder() / "studies")


def find_shipped(name: str) -> Path:
    """Return the file of a shipped recipe. Raises FinetuneError with the nearest name when there is none."""
    recipes = shipped_recipes()
    if name in recipes:
        return recipes[name]
    raise FinetuneError(
        f"no shipped recipe is called {name}; {nearest_or_all(name, recipes)}", "List them with: finetune recipes"
    )


def find_sweep(reference: str) -> Path:
    """Return the file of a sweep: itself, or the shipped one of that name. Raises FinetuneError when there is none."""
    return _file_or_shipped(reference, shipped_sweeps(), "sweep", "docs/sweeps.md tells how one is written.")


def find_study(reference: str) -> Path:
    """Return the file of a study: itself, or the shipped one of that name. Raises FinetuneError when there is none."""
    return _file_or_shipped(reference, shipped_studies(), "study", "docs/studies.md tells how one is written.")


def _file_or_shipped(reference: str, shipped: Mapping[str, Path], what: str, hint: str) -> Path:
    there = look_up(Path(reference))
    if there.kind == "file":
        return Path(reference)
    if there.fault:
        raise FinetuneError(f"{there.shown} {there.fault}", "Check the path and its permissions.")
    if reference in shipped:
        return shipped[reference]
    path = Path(reference)
    near = near_name(path.name, neighbours(path.parent) or [])
    known = nearest_or_all(reference, shipped, "shipped with finetune:")
    raise FinetuneError(
        f"{reference}: no such {what} file; {known}", f"Did you mean {path.parent / near}?" if near else hint
    )


def describe_recipe(path: Path) -> str:
    """Return what a recipe says about itself: the first line of comment that is for people."""
    for line in path.read_text(encoding="utf-8").splitlines():
        words = line.removeprefix("#").strip()
        if line.startswith("#") and words and not words.startswith("yaml-language-server"):
            return words
    return ""


def copy_recipe(name: str, target: Path) -> None:
    """Copy a shipped recipe to a file. Raises FinetuneError when there is a file already."""
    write_new(target, find_shipped(name).read_text(encoding="utf-8"))


def write_new(path: Path, text: str, force: bool = False) -> None:
    """Write a recipe to a file that is not there yet. Raises FinetuneError when it is, or cannot be written."""
    there = look_up(path)
    if there.kind == "folder":
        raise FinetuneError(f"{path} is a folder", f"Name the file: {path / 'recipe.yaml'}")
    if there.fault:
        raise FinetuneError(f"{there.shown} {there.fault}", "Choose another place.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w" if force else "x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError as error:
        raise FinetuneError(f"{path} is there already", "Choose another name, or remove it first.") from error
    except OSError as error:
        raise FinetuneError(f"{path} cannot be written: {error.strerror}", "Choose another place.") from error


def _folder() -> Path:
    package = Path(__file__).resolve().parents[1]
    inside, beside = package / "shipped_recipes", package.parent / "recipes"
    return inside if inside.is_dir() else beside


def _by_name(folder: Path) -> Mapping[str, Path]:
    return {path.stem: path for path in sorted(folder.glob("*.yaml"), key=lambda path: path.stem)}
