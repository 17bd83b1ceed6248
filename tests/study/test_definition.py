import pytest

from finetune.cli.app import main
from finetune.errors import FinetuneError
from finetune.recipe.shipped import find_study
from finetune.study.definition import read_study
from finetune.study.outlook import plan_text
from finetune.study.plan import cell_members, read_state, search_members


def test_definition_lists_every_problem_with_its_line(study_file):
    path = study_file(
        strategies={"full": {"trainng.learning_rate": 1e-4}, "other": {"dataset.path": "x", "training.seed": 3}},
        reference="ful", rows=[10, 10], seedz=[1],
    )  # fmt: skip
    with pytest.raises(FinetuneError) as caught:
        read_study(path)
    message = caught.value.message
    assert "seedz: unknown key; did you mean seeds?" in message
    assert "reference: ful is no strategy; did you mean full?" in message
    assert "rows: names a number twice" in message
    assert "strategies.other: dataset.path cannot differ between strategies" in message
    assert "strategies.other: training.seed cannot be set: the study has its own key: seeds" in message
    assert "pay.yaml:" in message


def test_definition_checks_each_strategy_by_the_rules_of_the_recipe(study_file):
    path = study_file(strategies={"full": {}, "lora": {"peft": {"method": "lorra"}}})
    with pytest.raises(FinetuneError, match=r"pay.yaml:\d+: strategies.lora: peft.method: .*lorra") as caught:
        read_study(path)
    assert "strategies.full" not in caught.value.message
    with pytest.raises(FinetuneError, match=r"settings: .*learning_rat: unknown key; did you mean"):
        read_study(study_file(settings={"training.learning_rat": 1}))


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"strategies": {"full": {}}}, "strategies: expected a mapping of two strategies or more"),
        ({"strategies": {"a b": {}, "c": {}}}, "strategies: expected a mapping of two strategies or more"),
        ({"rows": [0]}, "rows: expected a list of whole numbers, at least 1"),
        ({"seeds": []}, "seeds: expected a list of whole numbers"),
        ({"strategies": {"a": {"training.learning_rate": [1, "x"]}, "b": {}}}, "expected a number above 0 or a list"),
        ({"strategies": {"a": {"training.learning_rate": [1e-3, 1e-3]}, "b": {}}}, "names a rate twice"),
        ({"recipe": "bse.yaml"}, "recipe: .*bse.yaml: no such recipe"),
    ],
)
def test_definition_says_what_is_allowed(study_file, keys, words):
    with pytest.raises(FinetuneError, match=words):
        read_study(study_file(**keys))


def test_definition_command_line_wins_over_the_settings_and_not_over_strategies(study_file):
    path = study_file(settings={"training.num_train_epochs": 9})
    study = read_study(path, ["training.num_train_epochs=2"])
    assert study.loaded.recipe.training.num_train_epochs == 2
    with pytest.raises(FinetuneError, match=r"model.init: is set by scratch: change the study file"):
        read_study(path, ["model.init=pretrained"])
    with pytest.raises(FinetuneError, match=r"training.seed: cannot be set"):
        read_study(path, ["training.seed=2"])


def test_definition_shipped_studies_are_found_by_name_and_read():
    transfer, distil = (read_study(find_study(name)) for name in ("transfer", "distil"))
    assert len(transfer.rows) >= 3
    assert len(transfer.strategies) >= 4
    assert len(transfer.seeds) >= 3
    for study in (transfer, distil):
        assert study.loaded.recipe.training.early_stopping_patience
        assert study.pretraining
        assert all(member.recipe().recipe.training.load_best_model_at_end for member in search_members(study))
    with pytest.raises(FinetuneError, match="did you mean transfer"):
        find_study("transfr")


def test_definition_a_study_file_that_is_not_there_or_cannot_be_reached_is_told(tmp_path):
    with pytest.raises(FinetuneError, match=r"mine\.yaml: no such study file; shipped with finetune: distil and"):
        find_study(str(tmp_path / "mine.yaml"))
    (tmp_path / "link.yaml").symlink_to(tmp_path / "gone.yaml")
    with pytest.raises(FinetuneError, match=r"is a link to .*gone\.yaml, which does not exist"):
        find_study(str(tmp_path / "link.yaml"))


def test_definition_a_file_that_is_not_there_is_told_with_its_likeliest_name(tmp_path):
    (tmp_path / "small.yaml").write_text("recipe: quickstart\n")
    with pytest.raises(FinetuneError, match=r"smal\.yaml: no such study file") as caught:
        find_study(str(tmp_path / "smal.yaml"))
    assert caught.value.hint == f"Did you mean {tmp_path / 'small.yaml'}?"


def test_definition_dry_run_prints_the_plan_and_makes_nothing(study_file, capsys, tmp_path):
    assert main(["study", str(study_file()), "training.num_train_epochs=4", "--dry-run"]) == 0
    printed = capsys.readouterr().out
    assert "22 runs, 0 of them finished" in printed
    assert "at most 4 epochs" in printed
    assert not (tmp_path / "runs").exists()
    assert main(["study", str(tmp_path / "pay.yaml"), "--plot", "x.gif"]) == 1
    assert ".svg, .png or .pdf" in capsys.readouterr().err


def test_definition_plan_says_how_many_runs_there_are(study_file):
    study = read_study(study_file(seeds=[1, 2]))
    text = plan_text(study, read_state(study, ()))
    assert "pay: 16 runs, 0 of them finished" in text
    assert "4 runs on 400 rows with seed 1" in text
    assert "2 strategies × rows 100, 400, 1,600 × seeds 1, 2 = 12 runs" in text
    assert "2 evaluations in a row" in text
    rates = {"full": 1e-4, "scratch": 1e-3}
    names = [member.name for member in cell_members(study, rates)]
    assert len(set(names)) == 12
    assert names[:3] == ["pay-full-100-s1", "pay-scratch-100-s1", "pay-full-400-s1"]
    recipe = cell_members(study, rates)[1].recipe().recipe
    assert (recipe.model.init, recipe.training.learning_rate) == ("scratch", 1e-3)
    assert (recipe.dataset.max_train_samples, recipe.training.seed) == (100, 1)
