import json

from finetune.recipe.keys import all_leaves
from finetune.recipe.reference import recipe_reference, recipe_schema, recipe_schema_text
from finetune.recipe.shipped import shipped_recipes


def test_reference_names_every_key_once_in_its_section():
    parts = recipe_reference().split("\n## ")
    for path in all_leaves():
        title = f"`{'.'.join(path[:-1])}`" if path[:-1] else "## Top level"
        (section,) = [part for part in parts if part.startswith(title + "\n")]
        assert section.count(f"\n| `{path[-1]}` |") == 1


def test_reference_rows_have_four_cells():
    rows = [line.replace("\\|", "") for line in recipe_reference().splitlines() if line.startswith("| `")]
    assert {row.count("|") for row in rows} == {3, 5}  # the table of aliases has two cells


def test_reference_schema_refuses_unknown_keys_and_describes_every_key():
    schema = recipe_schema()
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    for part in (schema, *schema["$defs"].values()):
        assert part["additionalProperties"] is False
        assert part["description"]
        assert all(key.get("description") or key["$ref"] for key in part["properties"].values())
    assert schema["$defs"]["Training"]["properties"]["eval_strategy"]["enum"] == ["no", "epoch", "steps"]
    [probes, _] = schema["$defs"]["Evaluation"]["properties"]["bias"]["anyOf"]
    assert probes["items"]["properties"]["probe"]["enum"] == ["pairs", "swaps", "groups"]


def test_reference_schema_beside_the_recipes_is_current():
    folder = next(iter(shipped_recipes().values())).parent
    assert json.loads((folder / "recipe.schema.json").read_text(encoding="utf-8")) == recipe_schema(), (
        "run: finetune schema > recipes/recipe.schema.json"
    )
    assert (folder / "recipe.schema.json").read_text(encoding="utf-8") == recipe_schema_text()
