import threading

from finetune.emissions.journal import read_journal
from finetune.emissions.opening import Segment, open_meter
from tests.synthetic import SyntheticSource


def test_open_meter_starts_in_the_background_and_numbers_segments(tmp_path, settings, clock):
    for number in range(3):
        meter = open_meter(
            settings(country_iso_code="BRA"), tmp_path, run_id="r", source=SyntheticSource({"cpu": 100.0})
        )
        with meter.phase("load"):
            pass
        meter.close("completed")
        assert len(meter.summary()["segments"]) == number + 1
    assert [life.segment for life in read_journal(tmp_path)] == [0, 1, 2]
    assert meter.summary()["carbon_intensity"]["location"] == "BRA"


def test_open_meter_neither_waits_nor_makes_numbers_up_before_the_source_is_ready(tmp_path, settings):
    ready = threading.Event()

    class Slow(SyntheticSource):
        def start(self):
            assert ready.wait(30)
            return super().start()

    calls = []
    meter = open_meter(
        settings(country_iso_code="BRA"), tmp_path, source=Slow({"cpu": 100.0}), synchronize=lambda: calls.append(1)
    )
    early = meter.summary()
    assert early["energy_kwh"] is None
    assert early["complete"] is False
    with meter.phase("load"):
        assert calls == []
        ready.set()
    assert meter.mark().energy_kwh is not None
    meter.close("completed")
    section = meter.summary()
    assert section["phases"]["load"]["energy_kwh"] is not None
    assert section["start_up_s"] > 0


def test_open_meter_keeps_the_interval_within_what_counters_allow(tmp_path, settings):
    meter = open_meter(
        settings(country_iso_code="BRA", measure_power_secs=600.0), tmp_path, source=SyntheticSource({"cpu": 1.0})
    )
    meter.close("completed")
    assert any("every 15 s" in note for note in meter.summary()["notes"])


def test_open_meter_counts_one_segment_for_all_nodes(tmp_path, settings, make_life):
    first = open_meter(settings(country_iso_code="BRA"), tmp_path, source=SyntheticSource({"cpu": 1.0}))
    first.close("died")
    second = open_meter(
        settings(country_iso_code="BRA"), tmp_path, source=SyntheticSource({"cpu": 1.0}), segment=Segment(4, {})
    )
    assert [life.segment for life in second.lives()] == [0, 4]
    assert second.lives()[1].resumed_from_uj == {}
    second.close("completed")
