import random
import time
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from finetune.emissions.components import COMPONENTS, known, unread
from finetune.emissions.journal import read_journal
from finetune.emissions.ledger import summarize
from finetune.emissions.neighbours import Neighbours
from tests.synthetic import SyntheticSource

KWH = 3_600_000_000_000


class Scripted(SyntheticSource):
    """A synthetic source whose readings and faults a test sets."""

    def __init__(self, clock, components=None, **faults):
        super().__init__({"cpu": 60.0, "gpu": 30.0, "ram": 10.0}, clock)
        self.components, self.faults, self.broken, self.stopped = components, faults, set(), 0

    def start(self):
        parts = super().start()
        if "start" in self.faults:
            raise self.faults["start"]
        return self.components or parts

    def read(self):
        if "read" in self.faults:
            raise self.faults["read"]
        return {name: None if name in self.broken else value for name, value in super().read().items()}

    def stop(self):
        self.stopped += 1


def watts(phase):
    return phase["energy_kwh"] * KWH / 1e6 / phase["duration_s"]


def test_meter_books_100_w_to_every_phase(make_meter, clock):
    meter = make_meter()
    spent = {"load": 0.3, "preprocess": 1.0, "baseline": 0.4, "train": 120.0, "evaluate": 2.5, "save": 0.31}
    for name, seconds in spent.items():
        with meter.phase(name):
            clock.sleep(seconds)
    meter.close("completed")
    section = meter.summary()
    for name, seconds in spent.items():
        assert section["phases"][name]["duration_s"] == pytest.approx(seconds, abs=2e-6)
        assert section["phases"][name]["energy_kwh"] * KWH == pytest.approx(100e6 * seconds, rel=5e-3)
    assert section["duration_s"] == pytest.approx(sum(spent.values()), abs=1e-5)
    assert section["energy_kwh"] * KWH == pytest.approx(100e6 * sum(spent.values()), rel=1e-9)


class StampedClock:
    """Real time for the meter; its source takes the meter's last stamp, so that a busy machine cannot part the two."""

    def __init__(self):
        self.stamp = time.monotonic()

    def __call__(self):
        self.stamp = time.monotonic()
        return self.stamp


def test_meter_books_100_w_in_real_time_with_a_sampler(make_meter):
    clock = StampedClock()
    meter = make_meter(SyntheticSource({"cpu": 100.0}, lambda: clock.stamp), clock=clock, interval_s=0.01)
    with meter.phase("train"):
        time.sleep(0.35)
        with meter.phase("evaluate"):
            time.sleep(0.3)
    meter.close("completed")
    section = meter.summary()
    assert watts(section["phases"]["train"]) == pytest.approx(100, rel=1e-4)
    assert watts(section["phases"]["evaluate"]) == pytest.approx(100, rel=1e-4)
    assert section["phases"]["evaluate"]["duration_s"] >= 0.3


def test_meter_gives_nested_phases_their_own_time_only(make_meter, clock):
    meter = make_meter()
    with meter.phase("train"):
        clock.sleep(5)
        with meter.phase("evaluate"):
            clock.sleep(2)
        clock.sleep(1)
    clock.sleep(4)
    phases = meter.summary()["phases"]
    assert {name: round(phase["duration_s"], 3) for name, phase in phases.items()} == {
        "train": 6.0,
        "evaluate": 2.0,
        "other": 4.0,
    }


def test_meter_closes_a_phase_that_raises(make_meter, clock):
    meter = make_meter()

    def fail():
        with meter.phase("train"):
            clock.sleep(1)
            raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        fail()
    clock.sleep(1)
    assert set(meter.summary()["phases"]) == {"train", "other"}


def test_meter_refuses_a_phase_that_the_record_does_not_have(make_meter):
    with pytest.raises(ValueError, match="warmup"), make_meter().phase("warmup"):
        pass


events = st.recursive(
    st.just(()),
    lambda inner: st.lists(
        st.tuples(st.sampled_from(["load", "train", "evaluate", "save"]), st.floats(0, 3), inner), max_size=4
    ),
    max_leaves=12,
)


@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(events, st.lists(st.integers(0, 9), max_size=5))
def test_meter_phases_sum_to_the_total_exactly(make_meter, clock, tmp_path_factory, tree, ticks):
    source = SyntheticSource({"cpu": 33.3, "gpu": 211.7, "ram": 10.1}, clock)
    meter = make_meter(source, directory=tmp_path_factory.mktemp("run"))
    began, first = clock(), source.read()

    def walk(nodes):
        for name, seconds, inner in nodes:
            with meter.phase(name):
                clock.sleep(seconds)
                walk(inner)
                if ticks:
                    ticks.pop()
                    meter.mark()

    walk(tree)
    meter.close("completed")
    life = meter._lives()[-1]
    last = source.read()
    for component in COMPONENTS:
        booked = sum(energy for (name, _), energy in life.microjoules.items() if name == component)
        assert booked == last[component] - first[component]
    assert sum(life.microseconds.values()) == round(clock() * 1e6) - round(began * 1e6)


def test_meter_waits_for_the_accelerator_at_every_border(make_meter, clock):
    calls = []
    meter = make_meter(synchronize=lambda: calls.append(clock()))
    with meter.phase("train"):
        clock.sleep(1)
    meter.mark()
    meter.close("completed")
    assert calls == [1000.0, 1001.0, 1001.0, 1001.0]


def test_meter_notes_a_device_that_cannot_be_waited_for(make_meter):
    def broken():
        raise RuntimeError("device-side assert")

    meter = make_meter(synchronize=broken)
    with meter.phase("train"):
        pass
    meter.close("failed")
    assert any("device-side assert" in note for note in meter.summary()["notes"])


def test_meter_close_is_idempotent_and_ends_the_source_once(make_meter, clock):
    source = Scripted(clock)
    meter = make_meter(source)
    with meter.phase("train"):
        clock.sleep(1)
    meter.close("completed")
    section = meter.summary()
    clock.sleep(50)
    meter.close("interrupted")
    with meter.phase("save"):
        clock.sleep(5)
    assert meter.summary() == section
    assert section["segments"][0]["reason_ended"] == "completed"
    assert source.stopped == 1


def test_meter_mark_is_cumulative_over_segments(make_meter, make_life, clock):
    first = make_meter()
    with first.phase("train"):
        clock.sleep(10)
    at_checkpoint = first.mark()
    with first.phase("train"):
        clock.sleep(3)
    first.close("interrupted")
    earlier = first._lives()
    second = make_meter(life=make_life(1, resumed_from_uj=at_checkpoint.nodes_uj), earlier=earlier)
    with second.phase("train"):
        clock.sleep(4)
    reading = second.mark()
    assert reading.energy_kwh * KWH == pytest.approx(100e6 * 17)
    assert reading.elapsed_s == pytest.approx(17)
    assert reading.emissions_g == pytest.approx(reading.energy_kwh * 98.348)
    section = second.summary()
    assert section["repeated_work_kwh"] * KWH == pytest.approx(100e6 * 3)
    assert section["energy_kwh"] == reading.energy_kwh
    assert [round(segment["energy_kwh"] * KWH / 1e8, 6) for segment in section["segments"]] == [13.0, 4.0]


@pytest.mark.parametrize(
    ("components", "faults"),
    [
        (None, {"start": OSError("no such file")}),
        (tuple(unread(name, "codecarbon could not start") for name in COMPONENTS), {}),
    ],
    ids=["raises", "says so"],
)
def test_meter_reports_null_when_the_source_does_not_start(make_meter, clock, components, faults):
    meter = make_meter(Scripted(clock, components, **faults))
    with meter.phase("train"):
        clock.sleep(2)
    assert meter.mark().energy_kwh is None
    meter.close("completed")
    section = meter.summary()
    assert section["energy_kwh"] is None
    assert section["emissions_g"] is None
    assert section["complete"] is False
    assert section["duration_s"] == 2.0
    assert "start" in section["components"]["cpu"]["detail"]


def test_meter_reports_null_when_every_reading_raises(make_meter, clock):
    meter = make_meter(Scripted(clock, read=RuntimeError("driver gone")))
    with meter.phase("train"):
        clock.sleep(2)
    meter.close("completed")
    section = meter.summary()
    assert section["energy_kwh"] is None
    assert "driver gone" in section["components"]["gpu"]["detail"]


def test_meter_notes_a_source_that_does_not_stop(make_meter, clock):
    source = Scripted(clock)
    source.stop = lambda: 1 / 0
    meter = make_meter(source)
    clock.sleep(1)
    meter.close("completed")
    section = meter.summary()
    assert section["energy_kwh"] * KWH == pytest.approx(100e6)
    assert any("could not be stopped" in note for note in section["notes"])


def test_meter_keeps_a_lower_bound_when_one_component_fails(make_meter, clock):
    source = Scripted(clock)
    meter = make_meter(source)
    with meter.phase("train"):
        clock.sleep(2)
    source.broken = {"gpu"}
    with meter.phase("evaluate"):
        clock.sleep(2)
    meter.close("completed")
    section = meter.summary()
    assert section["complete"] is False
    assert section["energy_kwh_high"] is None
    assert section["components"]["gpu"]["energy_kwh"] * KWH == pytest.approx(30e6 * 2)
    assert section["components"]["cpu"]["energy_kwh"] * KWH == pytest.approx(60e6 * 4)
    assert section["components"]["gpu"]["detail"].endswith("gpu failed")


def test_meter_drops_and_flags_a_counter_that_runs_backwards(make_meter, clock):
    source = Scripted(clock)
    meter = make_meter(source)
    with meter.phase("train"):
        clock.sleep(5)
    source._started = clock() - 1  # the counters start again
    with meter.phase("evaluate"):
        pass
    clock.sleep(2)
    meter.close("completed")
    section = meter.summary()
    assert section["components"]["cpu"]["energy_kwh"] * KWH == pytest.approx(60e6 * 7)
    assert section["complete"] is False
    assert "backwards" in section["components"]["cpu"]["detail"]


def test_meter_takes_a_silent_counter_for_no_reading(make_meter, clock):
    source = SyntheticSource({"cpu": 50.0, "gpu": 0.0}, clock)
    source.start = lambda: (
        known("cpu", "modelled", "load", "CPU load, TDP known"),
        known("gpu", "measured", "counter", "GPU counter"),
    )
    meter = make_meter(source)
    with meter.phase("train"):
        clock.sleep(60)
    meter.close("completed")
    section = meter.summary()
    assert section["components"]["gpu"]["energy_kwh"] is None
    assert "0 J" in section["components"]["gpu"]["detail"]
    assert section["complete"] is False


def test_meter_flags_a_sampler_that_was_held_up(make_meter, clock):
    meter = make_meter(interval_s=3600.0)
    clock.sleep(3 * 3600 + 1)
    meter.close("completed")
    assert any("held up" in note for note in meter.summary()["notes"])


def test_meter_sampler_writes_ticks_on_its_own(make_meter, tmp_path):
    meter = make_meter(SyntheticSource({"cpu": 10.0}), clock=time.monotonic, interval_s=0.02)
    for _ in range(500):
        if len((tmp_path / "energy.jsonl").read_text().splitlines()) >= 5:
            break
        time.sleep(0.01)
    lives = read_journal(tmp_path)
    assert lives[0].microjoules[("cpu", "other")] > 0
    assert lives[0].reason_ended is None
    meter.close("completed")
    assert read_journal(tmp_path)[0].reason_ended == "completed"
    assert read_journal(tmp_path)[0].overhead_s > 0


def test_meter_journal_holds_what_the_summary_says(make_meter, clock, tmp_path):
    meter = make_meter()
    generator = random.Random(0)
    for _ in range(20):
        with meter.phase(generator.choice(["train", "evaluate", "save"])):
            clock.sleep(generator.random())
    meter.close("completed")
    of_journal, of_meter = summarize(read_journal(tmp_path)), meter.summary()
    for section in (of_journal, of_meter):
        for rounded in ("tracking_overhead_s", "tracking_overhead_percent"):
            section.pop(rounded)
    assert of_journal == of_meter


def test_meter_adds_up_what_other_nodes_tell(make_meter, make_life, clock):
    first, second = make_meter(), make_meter(life=make_life(0, 1))
    with first.phase("train"), second.phase("train"):
        clock.sleep(10)
        first.hear(second.lives())
        early = first.mark()
        clock.sleep(5)
    first.hear(second.lives())
    told = first.mark()
    assert early.nodes_uj == {0: 1_000_000_000, 1: 1_000_000_000}
    assert told.nodes_uj == {0: 1_500_000_000, 1: 1_500_000_000}
    assert told.microjoules == 3_000_000_000
    assert told.energy_kwh * KWH == pytest.approx(3e9)
    # Its own lives are not learnt from others, and an older account changes nothing.
    first.hear([make_life(0, 0), make_life(0, 1)])
    assert first.mark().nodes_uj == told.nodes_uj
    assert [node["node"] for node in first.summary()["nodes"]] == [0, 1]
    assert first.summary()["duration_s"] == pytest.approx(15)


def test_meter_goes_on_when_the_journal_cannot_be_written(make_meter, clock, tmp_path):
    meter = make_meter(directory=tmp_path / "not there")
    with meter.phase("train"):
        clock.sleep(1)
    meter.close("completed")
    section = meter.summary()
    assert section["energy_kwh"] * KWH == pytest.approx(100e6)
    assert any("journal could not be written" in note for note in section["notes"])


def test_meter_keeps_a_lower_bound_when_a_component_lacks_a_part(make_meter, clock):
    parts = tuple(known(name, "measured", "a counter", "GPU counter") for name in COMPONENTS)
    parts = tuple(replace(part, lacks="one card of two") if part.name == "gpu" else part for part in parts)
    meter = make_meter(Scripted(clock, parts))
    with meter.phase("train"):
        clock.sleep(60)
    meter.close("completed")
    gpu = meter.summary()["components"]["gpu"]
    assert gpu["energy_kwh"] == pytest.approx(30 * 60 / 3.6e6)
    assert gpu["energy_kwh_high"] is None
    assert "one card of two" in gpu["detail"]
    assert meter.summary()["complete"] is False


def test_meter_keeps_the_idle_baseline_out_of_energy_and_time(make_meter, clock, tmp_path):
    parts = (known("cpu", "measured", "a counter", "CPU counter"), *(unread(name, "none") for name in ("gpu", "ram")))
    meter = make_meter(Scripted(clock, parts))
    with meter.idle():
        clock.sleep(30)
        meter.mark()  # a regular measurement in between changes nothing
        clock.sleep(10)
    with meter.phase("train"):
        clock.sleep(20)
    section = meter.summary()
    assert section["duration_s"] == pytest.approx(20)
    assert section["components"]["cpu"]["energy_kwh"] == pytest.approx(60 * 20 / 3.6e6)
    assert set(section["phases"]) == {"train"}
    assert section["idle"] == {
        "duration_s": pytest.approx(40),
        "watts": {"cpu": pytest.approx(60), "gpu": None, "ram": None},
        "above_idle_kwh": {"cpu": pytest.approx(0, abs=1e-12), "gpu": None, "ram": None},
    }
    meter.close("completed")
    read = summarize(read_journal(tmp_path))
    assert (read["idle"], read["energy_kwh"], read["lives"]) == (
        section["idle"], section["energy_kwh"], section["lives"]
    )  # fmt: skip


def test_meter_learns_of_neighbours_and_its_journal_keeps_them(make_meter, clock, tmp_path):
    host = tmp_path / "host"
    meter = make_meter(neighbours=Neighbours("own", host))
    assert meter.summary()["shared_with"] == []
    other = Neighbours("other", host)
    other.join(["ram"])
    other.leave()
    meter.close("completed")
    assert other.met == ("own",)
    assert meter.summary()["shared_with"] == ["other"]
    assert summarize(read_journal(tmp_path))["shared_with"] == ["other"]


def test_meter_looks_for_neighbours_at_every_tick(make_meter, clock, tmp_path):
    meter = make_meter(neighbours=Neighbours("own", tmp_path / "host"), interval_s=0.01)
    other = Neighbours("other", tmp_path / "host")
    other.join(["cpu"])
    until = time.monotonic() + 30
    while meter.summary()["shared_with"] != ["other"] and time.monotonic() < until:
        time.sleep(0.01)
    assert meter.summary()["shared_with"] == ["other"]
    other.leave()


def test_meter_without_a_look_around_says_that_nobody_looked(make_meter, clock, tmp_path):
    assert make_meter().summary()["shared_with"] is None
    (tmp_path / "file").write_text("")
    meter = make_meter(neighbours=Neighbours("own", tmp_path / "file"))
    assert meter.summary()["shared_with"] is None
    assert any("could not be looked for" in note for note in meter.summary()["notes"])
