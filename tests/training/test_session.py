import json

import pytest

from finetune import ranks
from finetune.emissions.allocation import Process
from finetune.emissions.neighbours import Neighbours
from finetune.training import session
from finetune.training.options import RunOptions
from tests.training.conftest import read_run


def test_session_meters_the_processes_of_its_own_machine(monkeypatch, tmp_path):
    from finetune.recipe.load import load_recipe
    from finetune.runs.record import Run

    told = [(0, Process(10, (0,), ("GPU-a",))), (0, Process(11, (1,), ("GPU-b",))), (1, Process(10, (0,), ("GPU-c",)))]
    monkeypatch.setattr(ranks, "everywhere", lambda own: told)
    opened = {}
    monkeypatch.setattr(session, "open_meter", lambda *_, **options: opened.update(options))
    options = RunOptions(load_recipe("quickstart").recipe, "name")
    session._open_meter(options, tmp_path, Run("id", "name"), None)
    assert opened["segment"].processes == (told[0][1], told[1][1])


def test_session_takes_an_idle_baseline_that_is_not_part_of_the_run(toy_recipe, finetune, only_run, monkeypatch):
    rests = []

    def rest(seconds):
        rests.append(seconds)
        real_sleep(0.05)

    real_sleep = session.time.sleep
    monkeypatch.setattr(session.time, "sleep", rest)
    opened = []
    monkeypatch.setattr(session, "open_device", lambda: opened.append(True))
    code, _, err = finetune("run", toy_recipe(training={"max_steps": 2}), "--idle-baseline", 2.5)
    assert code == 0, err
    assert opened == [True]
    assert rests[:3] == [1.0, 1.0, 0.5]
    assert "idle baseline, 2.5 s" in err
    emissions = read_run(only_run())["emissions"]
    assert 0.1 < emissions["idle"]["duration_s"] < 60
    assert set(emissions["idle"]["watts"]) == {"cpu", "gpu", "ram"}
    assert emissions["idle"]["watts"]["ram"] is None  # a constant says nothing about rest
    phases = sum(phase["duration_s"] for phase in emissions["phases"].values())
    assert phases == pytest.approx(emissions["duration_s"])
    assert "idle" not in emissions["phases"]


def test_session_records_its_neighbours_and_not_itself(toy_recipe, finetune, only_run, interrupt_after):
    recipe = toy_recipe(training={"max_steps": 4})
    interrupt_after(3)
    code, _, err = finetune("run", recipe)
    assert code == 128 + 15, err
    assert read_run(only_run())["emissions"]["shared_with"] == []
    assert read_run(only_run())["emissions"]["idle"] is None
    other = Neighbours("other-20260101T000000Z-aaaaaa")
    other.join(["ram"])
    interrupt_after(10**6)
    code, _, err = finetune("run", recipe, "--resume")
    assert code == 0, err
    emissions = read_run(only_run())["emissions"]
    assert emissions["shared_with"] == ["other-20260101T000000Z-aaaaaa"]
    assert [life["segment"] for life in emissions["lives"]] == [0, 1]
    other.leave()
    assert other.met == (only_run().name,)
    code, out, _ = finetune("list", "--json", "--output-dir", only_run().parent)
    assert json.loads(out)["total"]["shared"] == 0  # when it ran is known: its hours count once
