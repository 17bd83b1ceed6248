import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune.emissions.components import BANDS, absent, known, unread
from finetune.emissions.intensity import Intensity
from finetune.emissions.ledger import PHASES, merge, repeated_microjoules, summarize

KWH = 3_600_000_000_000
CPU = known("cpu", "modelled", "load model", "CPU load, TDP known")
GPU = known("gpu", "measured", "counter", "GPU counter")
RAM = known("ram", "assumed", "constant", "memory constant")
NO_GPU = absent("gpu", "no GPU was found")


def as_mark(energy):
    """Return a checkpoint's mark of the only machine."""
    return None if energy is None else {0: energy}


def test_ledger_gives_the_contract_keys(make_life):
    section = summarize([make_life(components=(CPU, NO_GPU, RAM), microjoules={("cpu", "train"): KWH})])
    assert set(section) >= {
        *("energy_kwh", "emissions_g", "duration_s", "complete", "energy_kwh_low", "energy_kwh_high"),
        *("emissions_g_low", "emissions_g_high", "carbon_intensity", "pue", "components", "phases", "nodes"),
        *(
            "segments",
            "repeated_work_kwh",
            "repeated_ranked_kwh",
            "shared_with",
            "tracking_overhead_s",
            "wh_per_1000_predictions",
        ),
        *("forecasts", "tool", "idle", "lives"),
    }
    assert set(section["carbon_intensity"]) >= {"g_per_kwh", "source", "year", "scope", "location", "known_from"}
    assert set(section["components"]) == {"cpu", "gpu", "ram"}
    assert set(section["nodes"][0]) >= {"node", "hostname", "energy_kwh", "carbon_intensity"}
    assert set(section["segments"][0]) >= {"started_at", "energy_kwh", "reason_ended"}
    assert set(section["phases"]["train"]) == {"energy_kwh", "emissions_g", "duration_s", "components"}


def test_ledger_multiplies_energy_by_pue_and_intensity_of_its_own_life(make_life):
    france = Intensity(56.0, "a table", 2023, "life-cycle", "FRA", "recipe")
    brazil = Intensity(98.0, "a table", 2023, "life-cycle", "BRA", "recipe")
    lives = [
        make_life(0, components=(CPU,), microjoules={("cpu", "train"): 2 * KWH}, pue=1.5, carbon_intensity=france),
        make_life(1, components=(CPU,), microjoules={("cpu", "train"): KWH}, pue=1.0, carbon_intensity=brazil),
    ]
    section = summarize(lives)
    assert section["energy_kwh"] == 3.0
    assert section["emissions_g"] == pytest.approx(2 * 1.5 * 56 + 98)
    assert section["pue"] == pytest.approx((2 * 1.5 + 1) / 3)
    assert section["carbon_intensity"]["g_per_kwh"] == pytest.approx(section["emissions_g"] / (2 * 1.5 + 1))
    assert section["carbon_intensity"]["known_from"] == "mixed"
    assert section["nodes"][0]["carbon_intensity"]["location"] == "FRA + BRA"


def test_ledger_adds_the_bands_linearly(make_life):
    life = make_life(
        components=(CPU, GPU, RAM),
        microjoules={("cpu", "train"): KWH, ("gpu", "train"): 2 * KWH, ("gpu", "save"): KWH, ("ram", "train"): KWH},
    )
    section = summarize([life, make_life(1, components=life.components, microjoules=life.microjoules)])
    low = 2 * (1 * 0.5 + 3 * 0.9 + 1 * 0.3)
    high = 2 * (1 * 2.0 + 3 * 1.1 + 1 * 2.0)
    assert (section["energy_kwh_low"], section["energy_kwh_high"]) == pytest.approx((low, high))
    assert (section["emissions_g_low"], section["emissions_g_high"]) == pytest.approx((low * 98.348, high * 98.348))
    assert section["components"]["gpu"]["energy_kwh_low"] == pytest.approx(6 * 0.9)


def test_ledger_widens_emissions_where_the_place_is_assumed(make_life):
    world = Intensity(475.0, "a report", 2019, "not stated", None, "assumed", 40.0, 700.0)
    section = summarize(
        [make_life(components=(GPU,), microjoules={("gpu", "train"): KWH}, carbon_intensity=world, pue=2.0)]
    )
    assert section["emissions_g"] == pytest.approx(950)
    assert section["emissions_g_low"] == pytest.approx(0.9 * 2 * 40)
    assert section["emissions_g_high"] == pytest.approx(1.1 * 2 * 700)
    assert section["energy_kwh_high"] == pytest.approx(1.1)


def test_ledger_leaves_the_high_end_open_where_hardware_gives_no_reading(make_life):
    life = make_life(
        components=(CPU, unread("gpu", "NVML cannot be asked"), RAM),
        microjoules={("cpu", "train"): KWH, ("ram", "train"): KWH},
    )
    section = summarize([life])
    assert section["complete"] is False
    assert section["energy_kwh"] == 2.0
    assert section["energy_kwh_low"] == pytest.approx(0.5 + 0.3)
    assert section["energy_kwh_high"] is None
    assert section["emissions_g_high"] is None
    assert section["components"]["gpu"] == {
        "energy_kwh": None,
        "energy_kwh_low": None,
        "energy_kwh_high": None,
        "method": None,
        "detail": "NVML cannot be asked",
    }
    assert section["phases"]["train"]["components"]["gpu"] is None


def test_ledger_counts_absent_hardware_as_complete(make_life):
    section = summarize([make_life(components=(CPU, NO_GPU), microjoules={("cpu", "train"): KWH})])
    assert section["complete"] is True
    assert section["components"]["gpu"]["method"] == "absent"
    assert section["components"]["gpu"]["energy_kwh"] is None


def test_ledger_keeps_what_was_read_before_a_reading_failed(make_life):
    life = make_life(
        components=(CPU, GPU), microjoules={("cpu", "train"): KWH, ("gpu", "train"): KWH}, missing={"gpu": "gone"}
    )
    section = summarize([life])
    assert section["energy_kwh"] == 2.0
    assert section["complete"] is False
    assert section["components"]["gpu"]["energy_kwh"] == 1.0
    assert section["components"]["gpu"]["energy_kwh_high"] is None
    assert "gone" in section["components"]["gpu"]["detail"]


def test_ledger_never_reports_zero_for_a_reading_that_always_failed(make_life):
    life = make_life(
        components=(CPU, GPU), microjoules={("cpu", "train"): KWH, ("gpu", "train"): 0}, missing={"gpu": "0 J"}
    )
    assert summarize([life])["components"]["gpu"]["energy_kwh"] is None


@pytest.mark.parametrize("components", [(), tuple(unread(name, "broken") for name in ("cpu", "gpu", "ram"))])
def test_ledger_reports_null_where_nothing_was_measured(make_life, components):
    section = summarize([make_life(components=components, microseconds={"train": 5_000_000})])
    for key in (
        "energy_kwh",
        "emissions_g",
        "energy_kwh_low",
        "energy_kwh_high",
        "emissions_g_low",
        "emissions_g_high",
    ):
        assert section[key] is None
    assert section["complete"] is False
    assert section["repeated_work_kwh"] is None
    assert section["duration_s"] == 5.0
    assert section["phases"]["train"]["energy_kwh"] is None
    assert section["segments"][0]["energy_kwh"] is None
    assert section["nodes"][0]["energy_kwh"] is None


def test_ledger_of_no_lives_is_empty_not_zero():
    section = summarize([])
    assert section["energy_kwh"] is None
    assert section["complete"] is False
    assert section["carbon_intensity"] is None


def test_ledger_names_mixed_methods(make_life):
    measured = known("cpu", "measured", "RAPL", "CPU counter")
    lives = [
        make_life(0, components=(CPU,), microjoules={("cpu", "train"): KWH}),
        make_life(1, components=(measured,), microjoules={("cpu", "train"): KWH}),
    ]
    cpu = summarize(lives)["components"]["cpu"]
    assert cpu["method"] == "mixed"
    assert cpu["detail"] == "load model; RAPL"
    assert cpu["energy_kwh_high"] == pytest.approx(2.0 + 1.05)


def test_ledger_takes_durations_from_node_0_only(make_life):
    lives = [
        make_life(0, node, components=(CPU,), microjoules={("cpu", "train"): KWH}, microseconds={"train": 7_000_000})
        for node in (0, 1)
    ]
    section = summarize(lives)
    assert section["duration_s"] == 7.0
    assert section["phases"]["train"]["duration_s"] == 7.0
    assert [node["energy_kwh"] for node in section["nodes"]] == [1.0, 1.0]


def test_ledger_calls_an_unclosed_segment_dead_only_once_another_follows(make_life):
    lives = [make_life(0), make_life(1)]
    assert [segment["reason_ended"] for segment in summarize(lives)["segments"]] == ["died", None]


@pytest.mark.parametrize(
    ("energies", "marks", "repeated"),
    [
        ([100, 50], [None, 70], 30),
        ([100, 50], [None, 100], 0),
        ([100, 50], [None, None], 0),
        ([100, 50], [None, 0], 100),
        # Twice from the same checkpoint: the second resume wastes all of the first one's work too, counted once.
        ([100, 50, 10], [None, 70, 70], 80),
        ([100, 50, 10], [None, 70, 140], 40),
    ],
)
def test_ledger_counts_repeated_work_once(make_life, energies, marks, repeated):
    lives = [
        make_life(number, components=(CPU,), microjoules={("cpu", "train"): energy}, resumed_from_uj=as_mark(mark))
        for number, (energy, mark) in enumerate(zip(energies, marks, strict=True))
    ]
    assert repeated_microjoules(lives) == repeated
    assert summarize(lives)["repeated_work_kwh"] == pytest.approx(repeated / KWH, rel=1e-12)


@pytest.mark.parametrize(
    ("tables", "marks", "repeated", "ranked"),
    [
        # Killed before its first checkpoint: loading and baselines were done again too, but are never ranked.
        ([{"load": 40, "baseline": 30, "train": 20, "save": 10}, {"load": 40, "train": 50}], [None, 0], 100, 30),
        # A checkpoint at 80: what came after it was training.
        ([{"baseline": 60, "train": 40}, {"load": 5, "train": 20}], [None, 80], 20, 20),
        # More was spent after the checkpoint than train, evaluate and save took in that life.
        ([{"train": 40, "audit": 60}, {"train": 20}], [None, 30], 70, 40),
        # A second life that died before its first checkpoint is repeated whole, its loading included.
        ([{"load": 10, "train": 90}, {"load": 10, "train": 20}, {"train": 50}], [None, 80, 80], 50, 40),
        # A later life that went on from an earlier checkpoint than the one before it.
        ([{"train": 100}, {"train": 50}, {"train": 50}], [None, 90, 40], 110, 110),
        ([{"train": 100}, {"train": 50}], [None, None], 0, 0),
    ],
)
def test_ledger_counts_as_repeated_ranked_work_only_train_evaluate_and_save(make_life, tables, marks, repeated, ranked):
    lives = [
        make_life(
            number,
            components=(CPU,),
            microjoules={("cpu", phase): energy for phase, energy in table.items()},
            resumed_from_uj=as_mark(mark),
        )
        for number, (table, mark) in enumerate(zip(tables, marks, strict=True))
    ]
    section = summarize(lives)
    assert section["repeated_work_kwh"] == pytest.approx(repeated / KWH, rel=1e-12)
    assert section["repeated_ranked_kwh"] == pytest.approx(ranked / KWH, rel=1e-12)


@pytest.mark.parametrize(
    ("second", "mark", "repeated"),
    [
        ({0: 10, 1: 20}, {0: 90, 1: 60}, 10 + 40),
        ({0: 10, 1: 20}, {0: 100, 1: 100}, 0),
        # Without a checkpoint, or for a node that joined after it, all is done again.
        ({0: 10, 1: 20}, {}, 200),
        ({0: 10, 1: 20}, {0: 100}, 100),
        # Resumed on one machine: what the lost one had done after the checkpoint counts all the same.
        ({0: 30}, {0: 90, 1: 60}, 10 + 40),
    ],
)
def test_ledger_counts_repeated_work_of_each_node(make_life, second, mark, repeated):
    lives = [make_life(0, node, components=(CPU,), microjoules={("cpu", "train"): 100}) for node in (0, 1)]
    lives += [
        make_life(1, node, components=(CPU,), microjoules={("cpu", "train"): energy}, resumed_from_uj=mark)
        for node, energy in second.items()
    ]
    assert repeated_microjoules(lives) == repeated
    assert summarize(lives)["repeated_ranked_kwh"] == pytest.approx(repeated / KWH, rel=1e-12)


def test_ledger_shows_each_node_with_its_own_grid(make_life):
    france = Intensity(56.0, "a table", 2023, "life-cycle", "FRA", "recipe")
    lives = [
        make_life(0, 0, components=(CPU,), microjoules={("cpu", "train"): KWH}),
        make_life(0, 1, components=(CPU,), microjoules={("cpu", "train"): 2 * KWH}, carbon_intensity=france),
        make_life(1, 1, components=(CPU,), microjoules={("cpu", "train"): KWH}, carbon_intensity=france),
    ]
    section = summarize(lives)
    assert [(node["node"], node["hostname"]) for node in section["nodes"]] == [(0, "host-0"), (1, "host-1")]
    assert [node["emissions_g"] for node in section["nodes"]] == pytest.approx([98.348, 3 * 56.0])
    assert sum(node["emissions_g"] for node in section["nodes"]) == pytest.approx(section["emissions_g"])


def test_ledger_keeps_of_two_accounts_of_a_life_the_newer(make_life):
    old = make_life(0, 1, microjoules={("cpu", "train"): 5}, microseconds={"train": 5})
    new = make_life(0, 1, microjoules={("cpu", "train"): 9}, microseconds={"train": 9})
    other = make_life(0, 0)
    assert merge([old, other], [new]) == (other, new)
    assert merge([new], [old, other]) == (other, new)


def test_ledger_repeated_ranked_work_without_a_reading_is_unknown():
    assert summarize([])["repeated_ranked_kwh"] is None


cells = st.dictionaries(
    st.tuples(st.sampled_from(["cpu", "gpu", "ram"]), st.sampled_from(PHASES)), st.integers(0, 10**15), max_size=12
)


@given(st.lists(cells, min_size=1, max_size=6))
def test_ledger_marginals_equal_the_total(tables):
    from finetune.emissions.ledger import Life

    place = Intensity(98.348, "a table", 2023, "life-cycle", "BRA", "recipe")
    lives = [
        Life(number // 2, number % 2, "h", "t", place, 1.3, components=(CPU, GPU, RAM), microjoules=table)
        for number, table in enumerate(tables)
    ]
    section = summarize(lives)
    for parts in ("components", "phases"):
        assert math.fsum(part["energy_kwh"] for part in section[parts].values()) == pytest.approx(
            section["energy_kwh"], rel=1e-9, abs=1e-18
        )
    for parts in ("nodes", "segments"):
        assert math.fsum(part["energy_kwh"] for part in section[parts]) == pytest.approx(
            section["energy_kwh"], rel=1e-9, abs=1e-18
        )
    assert math.fsum(part["emissions_g"] for part in section["phases"].values()) == pytest.approx(
        section["emissions_g"], rel=1e-9, abs=1e-15
    )
    assert section["energy_kwh_low"] <= section["energy_kwh"] <= section["energy_kwh_high"]


def test_components_bands_hold_the_value():
    assert all(0 < low <= 1 <= high for low, high in BANDS.values())


@pytest.mark.parametrize(
    ("met", "expected"),
    [
        ([None], None),
        ([()], []),
        ([("b", "a")], ["a", "b"]),
        ([(), ("a",), ("a", "b")], ["a", "b"]),
        ([None, ()], None),  # one life did not look: none is not known
        ([None, ("a",)], ["a"]),
    ],
)
def test_ledger_names_the_runs_that_any_life_met(make_life, met, expected):
    lives = [make_life(number, shared_with=names) for number, names in enumerate(met)]
    assert summarize(lives)["shared_with"] == expected


def test_ledger_of_no_life_says_that_nobody_looked():
    assert summarize(())["shared_with"] is None
