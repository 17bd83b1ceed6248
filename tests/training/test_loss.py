"""The loss is normalised over the whole step: every way of cutting a batch gives the same training."""

import pytest

from tests.marks import slowly
from tests.training.conftest import read_log


def losses(directory):
    return [line["loss"] for line in read_log(directory) if "loss" in line]


@pytest.mark.parametrize("weights", [None, *slowly([[1.0, 4.0]])])
def test_accumulated_batches_train_as_whole_ones(weights, toy_recipe, finetune, tmp_path):
    # 64 rows in batches of 12: the last batch of an epoch is ragged, and 12 = 1×12 = 4×3 = 5+5+2.
    for batch, accumulation, name in ((12, 1, "whole"), (3, 4, "even"), (4, 3, "other")):
        training = {
            "per_device_train_batch_size": batch, "gradient_accumulation_steps": accumulation,
            "learning_rate": 1e-3, "class_weights": weights,
        }  # fmt: skip
        code, _, err = finetune("run", toy_recipe(training=training), f"output_dir={tmp_path / name}")
        assert code == 0, err
    whole, even, other = (losses(next((tmp_path / name).iterdir())) for name in ("whole", "even", "other"))
    assert even == pytest.approx(whole, rel=1e-4)
    assert other == pytest.approx(whole, rel=1e-4)


def test_first_loss_equals_plain_torch(toy_recipe, toy_data, checkpoints, finetune, only_run):
    import json

    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    finetune("run", toy_recipe(training={"max_steps": 1, "per_device_train_batch_size": 64}))
    rows = [json.loads(line) for line in (toy_data / "train.jsonl").read_text().splitlines()]
    tokenizer = AutoTokenizer.from_pretrained(checkpoints("bert"))
    torch.manual_seed(42)
    model = AutoModelForSequenceClassification.from_pretrained(checkpoints("bert"), num_labels=2).eval()
    batch = tokenizer([row["text"] for row in rows], padding=True, return_tensors="pt")
    labels = torch.tensor([["bad", "good"].index(row["label"]) for row in rows])
    expected = float(model(**batch, labels=labels).loss.detach())
    assert losses(only_run())[0] == pytest.approx(expected, rel=1e-5)
