import json
import os
import signal
import subprocess
import sys
import time

import pytest

from finetune.emissions.components import absent, known
from finetune.emissions.journal import Journal, journal_path, read_journal
from finetune.emissions.ledger import summarize, total_microjoules
from tests.synthetic import SyntheticSource

CPU = known("cpu", "modelled", "load model", "CPU load, TDP known")

CHILD = """
import sys, time
from pathlib import Path
from finetune.emissions.intensity import Intensity
from finetune.emissions.journal import Journal, journal_path
from finetune.emissions.ledger import Life
from finetune.emissions.meter import EnergyMeter
from tests.synthetic import SyntheticSource

directory, segment = Path(sys.argv[1]), int(sys.argv[2])
life = Life(segment, 0, "host", "now", Intensity(100.0, "s", None, "as given", None, "recipe"), 1.0)
journal = Journal(journal_path(directory, 0))
journal.open_segment(life, {})
meter = EnergyMeter(SyntheticSource({"cpu": 100.0}), journal, life, interval_s=0.02).start()
with meter.phase("train"):
    time.sleep(600)
"""


def write_life(directory, life, ticks, *, reason=None):
    """Write a segment whose phase `train` grows by 10 J and 1 s a tick."""
    import dataclasses

    journal = Journal(journal_path(directory, life.node))
    journal.open_segment(life, {"pid": 1})
    life = dataclasses.replace(life, components=(CPU, absent("gpu", "none")))
    journal.components(life)
    for number in range(1, ticks + 1):
        life = dataclasses.replace(
            life,
            microjoules={("cpu", "train"): number * 10_000_000},
            microseconds={"train": number * 1_000_000},
        )
        journal.tick(life, ["train"], "now", sync=False)
    if reason:
        journal.end(dataclasses.replace(life, reason_ended=reason), "now")
    return life


def test_journal_reads_back_what_was_written(tmp_path, make_life):
    written = write_life(tmp_path, make_life(resumed_from_uj={0: 7, 1: 9}, boot_id="b"), 3, reason="completed")
    (read,) = read_journal(tmp_path)
    assert read.microjoules == written.microjoules
    assert read.microseconds == written.microseconds
    assert read.components == written.components
    assert (read.resumed_from_uj, read.boot_id, read.reason_ended) == ({0: 7, 1: 9}, "b", "completed")
    assert read.carbon_intensity == written.carbon_intensity


def test_journal_reads_the_single_mark_of_the_first_version(tmp_path, make_life):
    write_life(tmp_path, make_life(resumed_from_uj={0: 7}), 1)
    path = journal_path(tmp_path, 0)
    path.write_text(path.read_text().replace('"resumed_from_uj":{"0":7}', '"resumed_from_uj":7'))
    [read] = read_journal(tmp_path)
    assert '"resumed_from_uj":7' in path.read_text()
    assert read.resumed_from_uj == {0: 7}


def test_journal_cut_at_any_byte_loses_one_tick_at_most(tmp_path, make_life):
    write_life(tmp_path, make_life(), 4)
    path = tmp_path / "energy.jsonl"
    whole = path.read_bytes()
    ends = [position + 1 for position, byte in enumerate(whole) if byte == ord("\n")]
    for cut in range(ends[1], len(whole)):
        path.write_bytes(whole[:cut])
        ticks = sum(end <= cut + 1 for end in ends) - 2  # a line that only lacks its newline is whole
        assert total_microjoules(read_journal(tmp_path)) == ticks * 10_000_000


def test_journal_continues_after_a_torn_line(tmp_path, make_life):
    write_life(tmp_path, make_life(0), 3)
    path = tmp_path / "energy.jsonl"
    path.write_bytes(path.read_bytes()[:-9])
    write_life(tmp_path, make_life(1), 5, reason="completed")
    first, second = read_journal(tmp_path)
    assert total_microjoules([first]) == 20_000_000
    assert total_microjoules([second]) == 50_000_000
    assert first.notes == ("1 damaged line(s) in the energy journal of segment 0 were left out",)
    section = summarize(read_journal(tmp_path))
    assert [segment["reason_ended"] for segment in section["segments"]] == ["died", "completed"]


def test_journal_takes_the_larger_of_lines_that_overtook_each_other(tmp_path, make_life):
    write_life(tmp_path, make_life(), 3)
    path = tmp_path / "energy.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:-2], lines[-1], lines[-2]]) + "\n")
    assert total_microjoules(read_journal(tmp_path)) == 30_000_000


def test_journal_leaves_out_garbage_and_foreign_files(tmp_path, make_life):
    write_life(tmp_path, make_life(0, 0), 2)
    write_life(tmp_path, make_life(0, 1), 3)
    with (tmp_path / "energy-1.jsonl").open("a") as file:
        file.write('not json\n[1]\n{"kind":"tick","segment":9}\n\x00\n')
    (tmp_path / "energy-copy.jsonl").write_text((tmp_path / "energy.jsonl").read_text())
    assert [(life.node, total_microjoules([life])) for life in read_journal(tmp_path)] == [
        (0, 20_000_000),
        (1, 30_000_000),
    ]


def test_journal_of_a_folder_without_one_is_empty(tmp_path):
    assert read_journal(tmp_path) == ()
    assert summarize(read_journal(tmp_path))["energy_kwh"] is None


def test_journal_ticks_hold_changed_phases_only(make_meter, clock, tmp_path):
    meter = make_meter(SyntheticSource({"cpu": 1.0}, clock))
    for name in ("load", "train", "evaluate"):
        with meter.phase(name):
            clock.sleep(1)
    lines = [json.loads(line) for line in (tmp_path / "energy.jsonl").read_text().splitlines()]
    assert all(len(line["microjoules"]) == 1 for line in lines if line["kind"] == "tick")


@pytest.mark.skipif(os.name == "nt", reason="there is no SIGKILL on Windows")
def test_journal_survives_kill_9_twice_and_counts_both_lives(tmp_path):
    path = tmp_path / "energy.jsonl"
    seen = []
    for segment in range(2):
        child = subprocess.Popen([sys.executable, "-c", CHILD, str(tmp_path), str(segment)])
        try:
            before = len(path.read_bytes()) if path.exists() else 0
            deadline = time.monotonic() + 60
            while time.monotonic() < deadline and child.poll() is None:
                if path.exists() and path.read_bytes()[before:].count(b'"tick"') >= 5:
                    break
                time.sleep(0.01)
            seen.append(total_microjoules(life for life in read_journal(tmp_path) if life.segment == segment))
        finally:
            child.send_signal(signal.SIGKILL)
            child.wait()
    lives = read_journal(tmp_path)
    assert [life.segment for life in lives] == [0, 1]
    assert all(seen)
    assert all(total_microjoules([life]) >= energy for life, energy in zip(lives, seen, strict=True))
    # 100 W: energy and time were booked together up to the last line, so nothing between the lines is made up.
    for life in lives:
        assert total_microjoules([life]) == pytest.approx(100 * sum(life.microseconds.values()), rel=0.02)
    assert [segment["reason_ended"] for segment in summarize(read_journal(tmp_path))["segments"]] == ["died", None]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_journal_on_a_full_disk_is_noted_not_raised(make_life):
    from pathlib import Path

    journal = Journal(Path("/dev/full"))
    journal.open_segment(make_life(), {})
    assert "No space left" in journal.problem
    journal.components(make_life())


def test_journal_keeps_baseline_neighbours_and_what_a_reading_covers(tmp_path, make_life):
    import dataclasses

    card = dataclasses.replace(CPU, name="gpu", hardware=("gpu:GPU-a",), lacks="the other card")
    life = make_life(
        components=(card,),
        idle_microjoules={"gpu": 5},
        idle_microseconds=9,
        microjoules={("gpu", "train"): 7},
        microseconds={"train": 3},
        shared_with=("other",),
    )
    journal = Journal(journal_path(tmp_path, 0))
    journal.open_segment(life, {})
    journal.components(life)
    journal.tick(life, ["idle", "train"], "now", sync=False)
    (read,) = read_journal(tmp_path)
    assert dataclasses.replace(read, notes=()) == life


def test_journal_of_an_older_version_says_that_nobody_looked(tmp_path, make_life):
    write_life(tmp_path, make_life(shared_with=()), 2, reason="completed")
    path = journal_path(tmp_path, 0)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for line in lines:
        line.pop("shared_with", None)
        for part in line.get("components", ()):
            del part["hardware"], part["lacks"]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    (read,) = read_journal(tmp_path)
    assert read.shared_with is None
    assert read.components[0] == CPU
    assert total_microjoules([read]) == 20_000_000
