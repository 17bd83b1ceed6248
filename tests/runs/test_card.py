from dataclasses import replace
from types import SimpleNamespace

import pytest
import yaml
from huggingface_hub.utils.endpoint_helpers import _is_emission_within_threshold

from finetune.runs.card import card_metadata, hub_id, model_card
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
    assert {(result.metric_type, result.dataset_split) for result in results} == {
        (metric, split) for metric in ("accuracy", "f1_macro") for split in ("validation", "test")
    }


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
