"""tracking.report_to: what Accelerate's trackers are told, and a tracker that is not installed."""

import pytest


def test_run_reports_to_tensorboard(toy_recipe, finetune, only_run):
    pytest.importorskip("tensorboardX")
    code, _, err = finetune("run", toy_recipe(training={"max_steps": 2}, tracking={"report_to": "tensorboard"}))
    assert code == 0, err
    content = b"".join(events.read_bytes() for events in only_run().rglob("events.out.tfevents.*"))
    for name in (b"loss", b"learning_rate", b"validation_accuracy"):
        assert name in content


def test_run_with_a_tracker_that_is_not_installed_says_so(toy_recipe, finetune):
    code, _, err = finetune("run", toy_recipe(tracking={"report_to": ["aim"]}))
    assert code == 1
    assert "tracking.report_to: aim cannot be used" in err
    assert "pip install aim" in err
