import pytest

from finetune.runs import formats
from finetune.runs.record import Score


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0.0, "0"), (0.000123456, "0.000123"), (0.9996, "1.00"), (1.0, "1.00"), (12.345, "12.3"), (999.6, "1,000"),
        (123456.0, "123,000"), (-0.05, "-0.0500"), (1.2345e-7, "1.23e-07"),
    ],
)  # fmt: skip
def test_formats_three_significant_digits(value, words):
    assert formats.significant(value) == words


def test_formats_energy_has_a_unit_and_unknown_is_never_zero():
    assert formats.energy(0.000412) == "0.412 Wh"
    assert formats.energy(1.5) == "1.50 kWh"
    assert (
        formats.energy(None) == formats.grams(None) == formats.duration(None) == formats.score(None) == "not measured"
    )
    assert formats.energy_with_band(0.002, 0.001, 0.004) == "2.00 Wh (band 1.00–4.00)"
    assert formats.energy_with_band(0.002, 0.001, None) == "at least 1.00 Wh"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.04, "0.0 s"),
        (41.3, "41 s"),
        (59.7, "1 min 00 s"),
        (200, "3 min 20 s"),
        (3599.6, "1 h 00 min"),
        (7500, "2 h 05 min"),
    ],
)
def test_formats_duration(seconds, words):
    assert formats.duration(seconds) == words


def test_formats_score_with_its_interval():
    assert formats.score(Score(0.965, 0.931, 0.982, 240)) == "0.965 [0.931–0.982]"
    assert formats.score(Score(-0.1, -0.25, 0.05)) == "-0.100 [-0.250 to 0.050]"
    assert formats.score(Score(1234.2)) == "1,234"


@pytest.mark.parametrize(
    ("size", "words"), [(0, "0 bytes"), (999, "999 bytes"), (1_500, "1.5 kB"), (2_340_000_000, "2.3 GB")]
)
def test_formats_file_size(size, words):
    assert formats.file_size(size) == words


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "–"), ({}, "–"), (True, "true"), ("none", "none"), (2e-5, "2e-05"), (3.0, "3"), (20240101, "20240101"),
        ([1, None, "a"], "[1, –, a]"),
    ],
)  # fmt: skip
def test_formats_a_setting_as_it_is_written(value, words):
    assert formats.setting(value) == words
