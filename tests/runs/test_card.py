import re
from dataclasses import replace
from types import SimpleNamespace

import pytest
import yaml
from huggingface_hub.utils.endpoint_helpers import _is_emission_within_threshold

from finetune.runs.card import model_card
from finetune.runs.card_metadata import card_metadata, hub_id
from finetune.runs.record import read_run
from tests.runs.builders import QUICKSTART, SCRATCH, STORED, make_emissions, make_run

SST2 = STORED / "sst2-20260903T110000Z-88bb88"


def head(card):
    return yaml.safe_load(card.split("---\n")[1])


@pytest.mark.parametrize("grams", [1.2345e-7, 0.000012, 0.00009999, 0.0001, 0.0304239538, 7.33, 232380.0, 1e9])
def test_card_grams_are_read_right_by_the_filter_of_the_hub(grams):
    card = model_card(make_run(emissions={**make_emissions({"gpu": 1.0}), "emissions_g": grams}))
    card_data = head(card)
    info = SimpleNamespace(card_data=card_data)
    assert float(card_data["co2_eq_emissions"]["emissions"]) == pytest.approx(grams, rel=1e-5)
    assert _is_emission_within_threshold(info, grams * 0.999, grams * 1.001)
    assert not _is_emission_within_threshold(info, grams * 1.01, grams * 2)
    assert "e-" not in str(card_data["co2_eq_emissions"]["emissions"])


def test_card_settings_are_told_to_the_last_digit():
    settings = {"learning_rate": 2e-5, "max_steps": 1_500_000, "seed": 20260901}
    card = model_card(make_run(recipe={"task": "text-classification", "training": settings}))
    for words in ("max_steps 1500000", "learning_rate 2e-05", "seed 20260901"):
        assert words in card.replace("\\_", "_")


def test_card_metadata_has_what_the_hub_reads():
    metadata = head(model_card(read_run(SST2)))
    assert metadata["base_model"] == "distilbert/distilbert-base-uncased"
    assert metadata["datasets"] == ["nyu-mll/glue"]
    assert metadata["pipeline_tag"] == "text-classification"
    assert metadata["library_name"] == "transformers"
    assert metadata["co2_eq_emissions"] == {
        "emissions": 2.20221,
        "source": "codecarbon 3.3.2 (cpu measured, gpu measured, ram assumed)",
        "training_type": "fine-tuning",
        "geographical_location": "FRA",
        "hardware_used": "1 x NVIDIA A100-SXM4-40GB",
    }
    (result,) = metadata["model-index"][0]["results"]
    assert result["dataset"] == {
        "name": "nyu-mll/glue", "type": "nyu-mll/glue", "config": "sst2", "split": "validation",
        "revision": "bcdcba79d07bc864c1c254ccfcedcce55bcc9a8c",
    }  # fmt: skip
    assert result["metrics"][0] == {"type": "accuracy", "value": 0.909404, "name": "accuracy"}


def test_card_metadata_loads_in_the_hubs_own_class():
    from huggingface_hub import ModelCard

    card = ModelCard(model_card(read_run(QUICKSTART)))
    results = card.data.eval_results
    assert {(result.metric_type, result.metric_name, result.dataset_split) for result in results} == {
        (*metric, split)
        for metric in (("accuracy", "accuracy"), ("f1", "f1 macro"))
        for split in ("validation", "test")
    }
    assert {str(result.metric_args) for result in results} == {"None", "{'average': 'macro'}"}


@pytest.mark.parametrize("stored", [SST2, QUICKSTART, SCRATCH], ids=lambda path: path.name)
def test_card_goes_round_through_the_hubs_own_classes(stored):
    from huggingface_hub import EvalResult, ModelCard, ModelCardData

    written = model_card(read_run(stored))
    card = ModelCard(written, ignore_metadata_errors=False)
    assert isinstance(card.data, ModelCardData)
    assert all(isinstance(result, EvalResult) for result in card.data.eval_results)
    again = ModelCard(str(card))
    assert again.data.to_dict() == card.data.to_dict() == head(written)
    co2 = again.data.to_dict()["co2_eq_emissions"]
    assert set(co2) == {"emissions", "source", "training_type", "geographical_location", "hardware_used"}
    grams = re.search(r"\d+\.\d+|\d+", str(co2["emissions"]))[0]  # what the Hub's filter reads
    assert float(grams) == pytest.approx(read_run(stored).emissions_g(), rel=1e-5)


def test_card_licence_and_language_are_the_recipes_else_those_of_the_cards():
    run = read_run(SST2)
    model = {**run.model, "license": "apache-2.0", "language": ["en", "pt"]}
    dataset = {**run.dataset, "license": "cc-by-4.0", "language": ["en"]}
    found = card_metadata(replace(run, model=model, dataset=dataset))
    assert (found["license"], found["language"]) == ("apache-2.0", ["en"])
    found = card_metadata(replace(run, model=model))
    assert (found["license"], found["language"]) == ("apache-2.0", ["en", "pt"])
    stated = {**run.recipe, "hub": {"license": "mit", "language": "pt"}}
    found = card_metadata(replace(run, model=model, dataset=dataset, recipe=stated))
    assert (found["license"], found["language"]) == ("mit", ["pt"])
    assert not {"license", "language"} & set(card_metadata(run))
    assert "nobody stated them" in model_card(run)
    assert "Languages: en, pt." in model_card(replace(run, model=model))
    assert "Licence of the data, by its own card: cc-by-4.0." in model_card(replace(run, dataset=dataset))


def test_card_of_random_weights_names_no_base_model_and_takes_no_licence_from_one():
    run = read_run(SST2)
    model = {**run.model, "license": "apache-2.0", "language": ["en"]}
    assert card_metadata(replace(run, model=model))["base_model_relation"] == "finetune"
    scratch = card_metadata(replace(run, model={**model, "init": "scratch"}))
    assert not {"base_model", "base_model_relation", "license", "language"} & set(scratch)


def test_card_prose_has_training_phases_and_what_stands_beside_the_total():
    run = read_run(QUICKSTART)
    card = model_card(run)
    for words in (
        "## Training",
        "152 steps",
        "num\\_train\\_epochs 4, learning\\_rate 0.0001",
        "| train | 0.238 Wh | 0.0234 g | 31 s |",
        "- measuring: took 0.31 s",
        "- answers: 0.0231 Wh for 1,000 predictions",
        "## Limits",
        "- Inputs are cut after 128 tokens.",
    ):
        assert words in card
    assert "flatters" not in card
    validation = replace(run, main_metric={**run.main_metric, "split": "validation"})
    assert "their score flatters" in model_card(validation)


def test_card_limits_say_what_is_assumed_and_what_was_not_read():
    unread = model_card(read_run(STORED / "sst2-20260903T100000Z-77aa77"))
    assert "energy and CO2e are lower bounds" in unread
    assert "world average of the grids" in unread
    assert "lower bounds" not in model_card(read_run(QUICKSTART))
    assert "Bands" not in model_card(make_run(emissions={"energy_kwh": None}))


def test_card_names_no_base_model_that_is_not_on_the_hub():
    metadata = card_metadata(read_run(QUICKSTART))
    assert "base_model" not in metadata
    assert "datasets" not in metadata
    assert hub_id({"path": "../x", "revision": "abc"}, "path") is None


def test_card_says_nothing_where_nothing_was_measured():
    card = model_card(make_run(emissions={"energy_kwh": None, "emissions_g": None}))
    assert "co2_eq_emissions" not in head(card)
    assert "Not measured." in card


def test_card_says_that_an_incomplete_reading_is_a_lower_bound():
    metadata = card_metadata(read_run(STORED / "sst2-20260903T100000Z-77aa77"))
    assert metadata["co2_eq_emissions"]["source"].endswith("gpu not measured, ram assumed; a lower bound)")
    assert metadata["co2_eq_emissions"]["geographical_location"] == "unknown (world average)"


def test_card_prose_shows_scores_baselines_energy_and_use():
    card = model_card(read_run(QUICKSTART))
    for words in (
        "## Scores",
        "majority class (test)",
        "0.950 \\[0.915–0.971\\]",
        "0.309 Wh (band 0.0928–0.704)",
        "modelled",
        'pipeline("text-classification"',
        "Labels: cancel, delivery",
    ):
        assert words in card
    assert "random weights" in model_card(read_run(SCRATCH))
    assert head(model_card(read_run(SCRATCH)))["co2_eq_emissions"]["training_type"] == "training from scratch"


def test_card_lets_nothing_from_the_data_break_out_and_no_home_path_in(monkeypatch):
    monkeypatch.setenv("HOME", "/home/maria")
    run = read_run(QUICKSTART)
    nasty = replace(
        run,
        name="a: [b] <img src=x onerror=alert(1)>",
        tags=("--- x: y", "/home/maria/tag"),
        model={**run.model, "name_or_path": "/home/maria/models/secret"},
        dataset={**run.dataset, "path": "/srv/clients/acme/data.csv", "label_names": ["<b>", "a|b", "/home/maria/x"]},
        recipe={**run.recipe, "task": '"); import os; ("'},
    )
    card = model_card(nasty)
    assert "<img" not in card.split("---\n", 2)[2]
    assert "<b>" not in card
    assert "maria" not in card
    assert "acme" not in card
    assert 'pipeline("text-classification"' in card
    assert head(card)["tags"] == ["finetune", "--- x: y", "~/tag"]
