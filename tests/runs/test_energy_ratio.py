import itertools
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune.runs.energy_ratio import Part, energy_ratio, ranked_kwh, ranked_parts
from tests.runs.builders import make_emissions, make_run


def ratio(ours, theirs):
    return energy_ratio(ranked_parts(ours), ranked_parts(theirs))


def test_energy_ratio_on_one_machine_the_shared_error_cancels():
    # One component, one factor: it cancels wholly, and only the assumed 5 % between repetitions is left.
    found = ratio(make_run("a", kwh={"gpu": 0.8}), make_run("b", kwh={"gpu": 1.0}))
    assert (found.value, found.low, found.high) == pytest.approx((0.8, 0.8 / 1.05, 0.8 * 1.05))
    assert found.verdict == "cheaper"


def test_energy_ratio_on_two_machines_each_has_its_own_error():
    # GPU counters are good to 10 %: 0.8 · 0.9/1.1 and 0.8 · 1.1/0.9, each widened by the assumed 5 %.
    found = ratio(make_run("a", kwh={"gpu": 0.8}), make_run("b", kwh={"gpu": 1.0}, machine="boot-2"))
    assert (found.low, found.high) == pytest.approx((0.8 * 0.9 / 1.1 / 1.05, 0.8 * 1.1 / 0.9 * 1.05))
    assert found.verdict == "undecided"


def test_energy_ratio_of_two_shared_components_is_taken_over_the_corners():
    # GPU 0.9–1.1, memory 0.3–2: of (2g + 1r)/(1g + 2r) the corners are g=0.9, r=2 and g=1.1, r=0.3.
    ours, theirs = make_run("a", kwh={"gpu": 2.0, "ram": 1.0}), make_run("b", kwh={"gpu": 1.0, "ram": 2.0})
    found = ratio(ours, theirs)
    lowest, highest = (2 * 0.9 + 2) / (0.9 + 2 * 2), (2 * 1.1 + 0.3) / (1.1 + 2 * 0.3)
    assert (found.value, found.low, found.high) == pytest.approx((1.0, lowest / 1.05, highest * 1.05))


def test_energy_ratio_of_a_modelled_processor_shares_the_error_only_near_the_same_load():
    # 65 W of TDP at 65 W is load 1; at 0.75 of the power the load is (0.65 / 0.9)^(1/3) = 0.897: apart by 0.103.
    def at(run_id, watts, **hardware):
        run = make_run(run_id, emissions=make_emissions({"cpu": watts * 600 / 3.6e6}))
        return replace(run, hardware={**run.hardware, **hardware})

    full = at("a", 65.0)
    shared = 0.8 / 1.05
    assert ratio(at("b", 65.0 * 0.8), full).low == pytest.approx(shared)
    assert ratio(at("b", 65.0 * 0.75), full).low == pytest.approx(0.75 * 0.5 / 2.0 / 1.05)
    assert ratio(at("b", 65.0 * 0.8, threads=8), full).low == pytest.approx(0.8 * 0.5 / 2.0 / 1.05)


def test_energy_ratio_takes_the_load_of_a_scaled_processor_from_its_share():
    def at(run_id, watts):
        emissions = make_emissions({"cpu": watts * 600 / 3.6e6})
        detail = "CPU load model, TDP 8 W, cgroup-scaled, 2 of 64 processors, 256 W of a processor"
        emissions["components"]["cpu"]["detail"] = detail
        return make_run(run_id, emissions=emissions)

    assert ranked_parts(at("a", 8.0))["cpu"].load == pytest.approx(1.0)  # all of the share, not 1/32 of the machine
    assert ranked_parts(at("b", 0.8))["cpu"].load == pytest.approx(0.0)


@pytest.mark.parametrize(
    "change",
    [
        {"tool": {"name": "codecarbon", "version": "3.3.1"}},
        {"tool": None},
        {"nodes": []},
        {"nodes": [{"node": 0, "boot_id": None}]},
    ],
)
def test_energy_ratio_shares_nothing_when_machine_or_tool_differ_or_are_unknown(change):
    ours = make_run("a", emissions=make_emissions({"gpu": 1.0}, **change))
    theirs = make_run("b", emissions=make_emissions({"gpu": 1.0}))
    unknown = make_run("c", emissions=make_emissions({"gpu": 1.0}, **change))
    assert ratio(ours, theirs).high == pytest.approx(1.1 / 0.9 * 1.05)
    if "version" not in (change.get("tool") or {}):
        assert ratio(ours, unknown).high == pytest.approx(1.1 / 0.9 * 1.05)


def test_energy_ratio_counts_train_evaluate_and_save_less_repeated_work():
    emissions = make_emissions({"gpu": 1.0}, repeated_work_kwh=0.5)
    emissions["phases"] = {
        name: {"duration_s": 10.0, "components": {"gpu": kwh}}
        for name, kwh in {
            "load": 9.0,
            "baseline": 9.0,
            "audit": 9.0,
            "other": 9.0,
            "train": 1.0,
            "evaluate": 0.7,
            "save": 0.3,
        }.items()
    }
    assert ranked_kwh(make_run(emissions=emissions)) == pytest.approx(1.5)


def test_energy_ratio_takes_off_only_the_repeated_work_of_the_ranked_phases():
    emissions = make_emissions({"gpu": 1.0, "cpu": 1.0}, repeated_work_kwh=5.0, repeated_ranked_kwh=0.5)
    parts = ranked_parts(make_run(emissions=emissions))
    assert {name: part.kwh for name, part in parts.items()} == pytest.approx({"gpu": 0.75, "cpu": 0.75})


@pytest.mark.parametrize(
    "repeated",
    [{"repeated_work_kwh": 1.0}, {"repeated_work_kwh": 9.0}, {"repeated_work_kwh": 9.0, "repeated_ranked_kwh": 1.0}],
)
def test_energy_ratio_never_ranks_a_run_at_zero(repeated):
    assert ranked_parts(make_run(emissions=make_emissions({"gpu": 0.7, "cpu": 0.3}, **repeated))) == {}


def test_energy_ratio_is_unknown_without_energy_or_with_an_open_band():
    measured = ranked_parts(make_run())
    assert ranked_kwh(make_run(emissions={})) is None
    assert energy_ratio(measured, {}) is None
    open_band = make_emissions({"gpu": 1.0})
    open_band["components"]["gpu"]["energy_kwh_high"] = None
    assert energy_ratio(measured, ranked_parts(make_run(emissions=open_band))) is None


parts = st.dictionaries(
    st.sampled_from(["cpu", "gpu", "ram"]),
    st.builds(
        Part,
        kwh=st.floats(0.01, 10),
        factor_low=st.sampled_from([0.3, 0.9]),
        factor_high=st.sampled_from([1.1, 3.0]),
        source=st.sampled_from([None, ("one",), ("two",)]),
        load=st.sampled_from([None, 0.5, 0.9]),
    ),
    min_size=1,
)


@given(ours=parts, theirs=parts)
def test_energy_ratio_is_antisymmetric_and_holds_the_central_value(ours, theirs):
    forth, back = energy_ratio(ours, theirs), energy_ratio(theirs, ours)
    assert forth.low <= forth.value <= forth.high
    assert (forth.low, forth.high) == pytest.approx((1 / back.high, 1 / back.low))
    opposite = {"cheaper": "dearer", "dearer": "cheaper", "undecided": "undecided"}
    assert back.verdict == opposite[forth.verdict] or min(abs(forth.low - 1), abs(forth.high - 1)) < 1e-9


@given(ours=parts, theirs=parts)
def test_energy_ratio_range_equals_that_of_every_corner_tried(ours, theirs):
    def shares(name):
        if name not in ours or name not in theirs or ours[name].source is None:
            return False
        one, two = ours[name], theirs[name]
        return replace(one, kwh=0) == replace(two, kwh=0) or (
            replace(one, kwh=0, load=None) == replace(two, kwh=0, load=None)
            and None not in (one.load, two.load)
            and abs(one.load - two.load) <= 0.1
        )

    names = {
        (side, name): (name if shares(name) else (side, name))
        for side in "ot"
        for name in {"o": ours, "t": theirs}[side]
    }
    bands = {key: ({"o": ours, "t": theirs}[side][name]) for (side, name), key in names.items()}
    keys = list(bands)
    tried = []
    for corner in itertools.product(*((bands[key].factor_low, bands[key].factor_high) for key in keys)):
        factor = dict(zip(keys, corner, strict=True))
        energies = [
            sum(part.kwh * factor[names[side, name]] for name, part in of.items())
            for side, of in (("o", ours), ("t", theirs))
        ]
        tried.append(energies[0] / energies[1])
    found = energy_ratio(ours, theirs)
    assert (found.low, found.high) == pytest.approx((min(tried) / 1.05, max(tried) * 1.05))
