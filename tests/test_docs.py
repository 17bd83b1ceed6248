"""The documentation says what the code does: generated parts, examples, links, the tree of the architecture."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from finetune.cli.app import VERBS, main
from finetune.recipe.keys import all_leaves, all_sections, dotted
from finetune.recipe.shipped import shipped_recipes
from finetune.runs.record import STATUSES, Run

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("benchmarks/*.md")])
GENERATED = ("README.md", "README.pt-BR.md", "docs/cli.md", "docs/recipe.md", "docs/scaling.md")
MARK = re.compile(r"<!-- (generated: [\w-]+|end) -->")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def page(name):
    return (ROOT / name).read_text(encoding="utf-8")


def section(text, heading):
    """Return what stands under a heading of the second level."""
    (found,) = [part for part in text.split("\n## ") if part.startswith(heading + "\n")]
    return found


def example(name, language="yaml"):
    """Return a code block of the README that follows the comment with this name."""
    after = page("README.md").split(f"<!-- example: {name} -->\n")[1]
    return re.search(rf"^```{language}\n(.*?)^```$", after, re.DOTALL | re.MULTILINE)[1]


def generate(root, *arguments, **environment):
    command = [sys.executable, "docs/generate.py", *arguments]
    return subprocess.run(
        command, cwd=root, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )


def test_docs_generated_parts_are_current():
    done = generate(ROOT, "--check", COLUMNS="60", FORCE_COLOR="1", GITHUB_ACTIONS="true")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", ""), "run: make docs"


def test_docs_generate_names_what_is_stale_and_writes_it(tmp_path):
    for path in (*ROOT.glob("README*.md"), *ROOT.glob("docs/*.*"), *ROOT.glob("recipes/*.*")):
        copy = tmp_path / path.relative_to(ROOT)
        copy.parent.mkdir(exist_ok=True)
        copy.write_bytes(path.read_bytes())
    (tmp_path / "finetune").symlink_to(ROOT / "finetune")
    schema, cli = tmp_path / "recipes" / "recipe.schema.json", tmp_path / "docs" / "cli.md"
    schema.write_text("{}", encoding="utf-8")
    cli.write_text(page("docs/cli.md").replace("## finetune validate", "## finetune vaildate"), encoding="utf-8")
    translation = tmp_path / "README.pt-BR.md"
    translation.write_text(
        page(translation.name).replace("<!-- compare -->", "<!-- compare -->\nold"), encoding="utf-8"
    )
    checked = generate(tmp_path, "--check")
    assert checked.returncode == 1
    named = [line.split(":")[0] for line in checked.stdout.splitlines()]
    assert named == ["README.pt-BR.md", "docs/cli.md", "recipes/recipe.schema.json"]
    assert schema.read_text(encoding="utf-8") == "{}"
    assert generate(tmp_path).returncode == 0
    assert cli.read_text(encoding="utf-8") == page("docs/cli.md")
    assert translation.read_text(encoding="utf-8") == page(translation.name)
    assert schema.read_bytes() == (ROOT / "recipes" / "recipe.schema.json").read_bytes()


@pytest.mark.parametrize("name", GENERATED)
def test_docs_every_generated_part_is_closed(name):
    marks = [mark.partition(":")[0] for mark in MARK.findall(page(name))]
    assert marks
    assert marks == ["generated", "end"] * (len(marks) // 2)


@pytest.mark.parametrize("verb", VERBS)
def test_docs_every_verb_is_documented(verb):
    assert f"Usage: finetune {verb} " in section(page("docs/cli.md"), f"finetune {verb}")
    assert re.search(rf"\bfinetune {verb}\b", page("README.md"))


def test_docs_every_section_and_key_of_the_recipe_is_documented():
    text = page("docs/recipe.md")
    for path in ((), *all_sections()):
        table = section(text, f"`{dotted(path)}`" if path else "Top level")
        for leaf in [leaf for leaf in all_leaves() if leaf[:-1] == path]:
            assert f"\n| `{leaf[-1]}` |" in table


def test_docs_every_shipped_recipe_is_in_the_readme():
    for name in shipped_recipes():
        assert f"| [`{name}`](recipes/{name}.yaml) | " in page("README.md")


def test_docs_every_field_of_the_record_and_every_status_is_documented():
    text = page("docs/runs.md")
    not_in_file = {"extra", "directory"}
    for name in set(Run.__dataclass_fields__) - not_in_file:
        assert re.search(rf"`{name}[`.]", text), name
    for status in STATUSES:
        assert f"| `{status}` |" in text


def test_docs_exit_codes_stand_on_one_page_and_the_others_lead_there():
    row = re.compile(r"^\| ([\d, ]+) \| .* \|$", re.MULTILINE)
    tables = {path.name: row.findall(path.read_text("utf-8")) for path in PAGES}
    assert tables["cli.md"] == ["0", "1", "2", "3", "70", "130, 143, 129"]
    assert [name for name, codes in tables.items() if "130, 143, 129" in codes] == ["cli.md"]
    assert "(docs/cli.md#exit-codes)" in page("README.md")
    assert "(cli.md#exit-codes)" in page("docs/runs.md")


def test_docs_every_environment_variable_is_in_one_table():
    sources = "".join(path.read_text("utf-8") for path in (ROOT / "finetune").rglob("*.py"))
    known = set(re.findall(r"\bFINETUNE_[A-Z_]+\b", sources))
    assert known
    assert {name for name in known if f"`{name}`" not in section(page("docs/cli.md"), "Environment variables")} == set()


def test_docs_example_recipe_of_the_readme_is_valid(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipe.yaml").write_text(example("recipe"), encoding="utf-8")
    (tmp_path / "messages.csv").write_text("message,department\nWhere is it?,delivery\n", encoding="utf-8")
    assert main(["validate", "recipe.yaml"]) == 0
    printed = capsys.readouterr()
    assert printed.out.startswith("ok: text-classification · distilbert/distilbert-base-uncased · ")
    assert printed.err == ""


def test_docs_example_of_mistakes_prints_what_the_readme_shows(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipe.yaml").write_text(example("mistakes"), encoding="utf-8")
    (tmp_path / "messages.csv").write_text("message,department\nWhere is it?,delivery\n", encoding="utf-8")
    assert main(["validate", "recipe.yaml"]) == 1
    assert capsys.readouterr().err == example("mistakes", "text")


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_docs_relative_links_resolve(path):
    text = re.sub(r"^```.*?^```$", "", path.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    links = [link.partition("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text)]
    local = [link for link in links if link and "://" not in link and not link.startswith("mailto:")]
    assert [link for link in local if not (path.parent / link).exists()] == []


def what_a_translation_keeps(text):
    """Return of each section, under `level` and so on, what is the same in every language, sorted where words move."""
    text = FENCE.sub(lambda block: block[0] if block[1] == "text" else re.sub(r"\s+#.*", "", block[0]), text)
    sections = []
    for part in re.split(r"^(?=#+ )", text, flags=re.MULTILINE)[1:]:
        prose = FENCE.sub("", part)
        links = re.findall(r"\]\(([^)\s]+)\)", prose)
        sections.append({
            "level": part.index(" "),
            "code": FENCE.findall(part),
            "links": sorted("another README" if link.startswith("README") else link for link in links),
            "names": sorted(" ".join(name.split()) for name in re.findall(r"`([^`]+)`", prose)),
            "numbers": sorted(re.findall(r"\d+(?:[.,]\d+)*", prose)),
            "comments": re.findall(r"<!-- .*? -->", part),
            "cells": [line.count("|") for line in prose.splitlines() if line.startswith("|")],
            "items": len(re.findall(r"^\* ", prose, re.MULTILINE)),
        })  # fmt: skip
    return sections


def test_docs_readme_says_the_same_in_portuguese():
    english, portuguese = (what_a_translation_keeps(page(name)) for name in ("README.md", "README.pt-BR.md"))
    assert "](README.pt-BR.md)" in page("README.md")[:100]
    assert "](README.md)" in page("README.pt-BR.md")[:100]
    assert [section["level"] for section in english] == [section["level"] for section in portuguese]
    for number, (ours, theirs) in enumerate(zip(english, portuguese, strict=True), start=1):
        for what, said in ours.items():
            assert theirs[what] == said, f"{what} of the {number}. heading"


def tree_of_the_architecture():
    """Return the paths that the tree of ARCHITECTURE.md names: two spaces a level, a folder ends in a slash."""
    block = section(page("ARCHITECTURE.md"), "The rooms").split("```text\n")[1].split("```")[0]
    paths, folders = [], []
    for line in block.splitlines():
        depth = (len(line) - len(line.lstrip())) // 2
        name = line.split()[0]
        paths.append("".join([*folders[:depth], name]))
        if name.endswith("/"):
            folders = [*folders[:depth], name]
    return paths


def test_docs_architecture_names_every_module_and_nothing_else():
    named = tree_of_the_architecture()
    assert len(named) == len(set(named))
    assert [path for path in named if not (ROOT / path).exists()] == []
    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / "finetune").rglob("*.py")}
    modules = {path for path in modules if not path.endswith("/__init__.py")}
    assert modules - set(named) == set()


def test_docs_citation_has_the_name_version_and_licence_of_the_package():
    import tomllib

    import yaml

    from finetune import __version__

    project = tomllib.loads(page("pyproject.toml"))["project"]
    cited = yaml.safe_load(page("CITATION.cff"))
    assert (cited["title"], cited["version"]) == (project["name"], __version__)
    assert (cited["license"], cited["abstract"]) == (project["license"], project["description"])
    assert cited["authors"] == project["authors"]
