"""The meter against what is known beforehand: constant watts, random lives, kills at random moments."""

import contextlib
import hashlib
import json
import math
import os
import random
import signal
import subprocess
import sys
import threading
import time
from fractions import Fraction

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from finetune.emissions.components import COMPONENTS
from finetune.emissions.journal import read_journal
from finetune.emissions.ledger import PHASES, summarize, total_microjoules
from tests.synthetic import SyntheticSource

KWH = 3_600_000_000_000


def joules(phase):
    return phase["energy_kwh"] * KWH / 1e6


@pytest.mark.parametrize("latency_s", [0.0, 0.02])
@pytest.mark.parametrize("interval_s", range(1, 16))
def test_proof_100_w_in_every_phase_at_every_interval(make_meter, clock, interval_s, latency_s):
    class Slow(SyntheticSource):
        def read(self):
            clock.sleep(latency_s)
            return super().read()

    meter = make_meter(Slow({"cpu": 70.0, "ram": 30.0}, clock))
    draw = random.Random(interval_s)
    next_tick = clock() + interval_s

    def live(seconds):
        nonlocal next_tick
        until = clock() + seconds
        while next_tick < until:
            clock.sleep(next_tick - clock())
            meter.lives()  # measures, as the sampler does
            next_tick += interval_s
        clock.sleep(max(0.0, until - clock()))

    truth_s = dict.fromkeys(("load", "preprocess", "baseline", "train", "evaluate", "save"), 0.0)
    for _ in range(12):
        outer, inner = draw.sample(sorted(truth_s), 2)
        before_s, inside_s, after_s = draw.uniform(1, 40), draw.uniform(1, 10), draw.uniform(0, 3)
        with meter.phase(outer):
            live(before_s)
            with meter.phase(inner):
                live(inside_s)
            live(after_s)
        truth_s[outer] += before_s + after_s
        truth_s[inner] += inside_s
    meter.close("completed")
    phases = meter.summary()["phases"]
    assert len(phases) >= 5
    for name, phase in phases.items():
        if phase["duration_s"] >= 1:
            assert joules(phase) == pytest.approx(100 * phase["duration_s"], rel=5e-3)
        if not latency_s:
            assert phase["duration_s"] == pytest.approx(truth_s[name], abs=1e-4)


def burn(stopping, hashing):
    data = bytes(1 << 16)
    while not stopping.is_set():
        if hashing:
            hashlib.sha256(data).digest()  # gives Python's lock away, as torch does
        else:
            sum(range(2000))


@pytest.mark.slow
def test_proof_100_w_under_load_in_real_time(make_meter, tmp_path):
    intervals = (1.0, 5.0, 15.0)
    meters = []
    for interval_s in intervals:
        folder = tmp_path / f"{interval_s:g}"
        folder.mkdir()
        source = SyntheticSource({"cpu": 100.0}, time.monotonic)
        meters.append(make_meter(source, directory=folder, clock=time.monotonic, interval_s=interval_s))
    stopping = threading.Event()
    burners = [threading.Thread(target=burn, args=(stopping, number > 0)) for number in range(4)]
    for burner in burners:
        burner.start()

    @contextlib.contextmanager
    def phase(name):
        with contextlib.ExitStack() as stack:
            for meter in meters:
                stack.enter_context(meter.phase(name))
            yield

    try:
        with phase("train"):
            time.sleep(8)
            with phase("evaluate"):
                time.sleep(1.2)
                with phase("save"):
                    time.sleep(1.1)
            time.sleep(6)
        with phase("audit"):
            time.sleep(1.0)
    finally:
        stopping.set()
        for burner in burners:
            burner.join()
    for meter in meters:
        meter.close("completed")
        phases = meter.summary()["phases"]
        assert {"train", "evaluate", "save", "audit"} <= set(phases)
        for name, found in phases.items():
            if found["duration_s"] >= 1:
                assert joules(found) == pytest.approx(100 * found["duration_s"], rel=5e-3), name


def len_of_union(stretches):
    length, reached = 0, 0
    for start, end in sorted(stretches):
        length += max(0, end - max(start, reached))
        reached = max(reached, end)
    return length


steps = st.lists(st.tuples(st.sampled_from(PHASES[:-1]), st.floats(0, 30), st.booleans()), max_size=6)
lives_of_a_run = st.lists(
    st.tuples(steps, st.sampled_from(["completed", "interrupted", None]), st.booleans()), min_size=1, max_size=4
)


@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None)
@given(lives_of_a_run, st.integers(1, 3))
def test_proof_phases_segments_nodes_and_components_equal_the_total_exactly(
    make_meter, make_life, clock, tmp_path_factory, lives_lived, nodes
):
    directory = tmp_path_factory.mktemp("run")
    spent, mark, wasted = 0, None, {node: [] for node in range(nodes)}
    for segment, (work, ending, has_checkpoint) in enumerate(lives_lived):
        sources = [SyntheticSource({"cpu": 33.3, "gpu": 211.7 + node, "ram": 10.1}, clock) for node in range(nodes)]
        earlier = read_journal(directory)
        for node in range(nodes) if mark is not None else ():
            wasted[node].append((mark.get(node, 0), total_microjoules(life for life in earlier if life.node == node)))
        meters = [
            make_meter(source, directory, make_life(segment, node, resumed_from_uj=mark), earlier=earlier)
            for node, source in enumerate(sources)
        ]
        first = [source.read() for source in sources]
        for name, seconds, nested in work:
            with contextlib.ExitStack() as stack:
                for meter in meters:
                    stack.enter_context(meter.phase(name))
                clock.sleep(seconds)
                if nested:
                    for meter in meters:
                        with meter.phase("evaluate"):
                            clock.sleep(seconds / 7)
        for meter in meters:
            meter.mark()  # the last line before the end, or before the kill
        spent += sum(
            source.read()[name] - start[name] for source, start in zip(sources, first, strict=True) for name in start
        )
        if has_checkpoint:
            mark = {node: total_microjoules(meters[node].lives()) for node in range(nodes)}
        if ending is not None:
            for meter in meters:
                meter.close(ending)
    lives = read_journal(directory)
    cells = [(life.segment, life.node, *cell, energy) for life in lives for cell, energy in life.microjoules.items()]
    total = total_microjoules(lives)
    assert total == spent
    for axis in range(4):  # segment, node, component, phase
        sums = {key: sum(cell[4] for cell in cells if cell[axis] == key) for key in {cell[axis] for cell in cells}}
        assert sum(sums.values()) == total
    section = summarize(lives)
    parts = {
        "phases": section["phases"].values(),
        "components": section["components"].values(),
        "nodes": section["nodes"],
        "segments": section["segments"],
    }
    for name, entries in parts.items():
        exact = sum((Fraction(part["energy_kwh"] or 0) for part in entries), Fraction(0))
        assert math.isclose(exact, section["energy_kwh"], rel_tol=1e-9, abs_tol=1e-18), name
    # Work done again: on each node's axis of all that it spent, the stretches from a checkpoint to where a life began.
    again = sum(len_of_union(stretches) for stretches in wasted.values())
    assert section["repeated_work_kwh"] * KWH == pytest.approx(again)
    assert 0 <= section["repeated_ranked_kwh"] <= section["repeated_work_kwh"] <= section["energy_kwh"]


CHILD = """
import sys, time
from pathlib import Path
from finetune.emissions.intensity import Intensity
from finetune.emissions.journal import Journal, journal_path
from finetune.emissions.ledger import Life
from finetune.emissions.meter import EnergyMeter
from tests.synthetic import SyntheticSource

directory, segment, interval_s = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
life = Life(segment, 0, "host", "now", Intensity(100.0, "s", None, "as given", None, "recipe"), 1.0)
journal = Journal(journal_path(directory, 0))
journal.open_segment(life, {})
meter = EnergyMeter(SyntheticSource({"cpu": 100.0}), journal, life, interval_s=interval_s)
print(time.monotonic(), flush=True)  # one clock for all processes of a machine
meter.start()
with meter.phase("train"):
    time.sleep(600)
"""


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/proc"), reason="needs a clock that processes share")
def test_proof_kill_at_a_random_moment_loses_at_most_one_interval(tmp_path):
    interval_s, draw, lived_j = 1.0, random.Random(5), []
    for segment in range(6):
        command = [sys.executable, "-c", CHILD, str(tmp_path), str(segment), str(interval_s)]
        child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        began = float(child.stdout.readline())
        time.sleep(draw.uniform(1.3, 4.0))
        child.send_signal(signal.SIGKILL)
        lived_j.append(100 * (time.monotonic() - began))
        child.wait()
        child.stdout.close()
    lives = read_journal(tmp_path)
    assert [life.segment for life in lives] == list(range(6))
    lines = [json.loads(line) for line in (tmp_path / "energy.jsonl").read_text().splitlines()]
    assert sum(line["kind"] == "tick" for line in lines) >= 6
    for life, truth_j in zip(lives, lived_j, strict=True):
        counted_j = total_microjoules([life]) / 1e6
        # A quarter of a second for a machine that lets the sampler wait; never more than was drawn.
        assert truth_j - 100 * (interval_s + 0.25) <= counted_j <= truth_j
    section = summarize(lives)
    assert section["energy_kwh"] * KWH / 1e6 == pytest.approx(sum(total_microjoules([life]) for life in lives) / 1e6)
    assert set(section["components"]) == set(COMPONENTS)
