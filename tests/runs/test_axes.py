import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune.runs.axes import energy_axis, score_axis


def test_axes_energy_starts_at_zero_when_the_energies_are_alike():
    axis = energy_axis([1.0, 2.0], 0, 100)
    assert not axis.is_log
    assert axis.at(0.0) == 0
    assert axis.ticks[0] == (0, "0.0")
    assert axis.at(2.0) == pytest.approx(100 / 1.04)


def test_axes_energy_is_logarithmic_when_they_lie_far_apart():
    axis = energy_axis([0.01, 10.0], 0, 300)
    assert axis.is_log
    places = [axis.at(value) for value in (0.1, 1.0, 10.0)]
    assert places[1] - places[0] == pytest.approx(places[2] - places[1])
    assert {"0.1", "1", "10"} <= {words for _, words in axis.ticks}


def test_axes_score_of_one_value_has_room_around_it():
    axis = score_axis([0.5], 100, 0)
    assert axis.low < 0.5 < axis.high
    assert axis.at(0.5) == pytest.approx(50)
    assert score_axis([0.0, 0.0], 100, 0).high > 0


_NUMBERS = st.lists(st.floats(1e-9, 1e9), min_size=1, max_size=8)


@given(_NUMBERS)
def test_axes_keep_all_numbers_in_order_and_label_ticks_truly(values):
    for axis in (energy_axis(values, 10, 500), score_axis([*values, *(-value for value in values)], 10, 500)):
        places = [axis.at(value) for value in sorted(values)]
        assert places == sorted(places)
        assert all(10 <= place <= 500 for place in places)
        assert len(axis.ticks) <= 15
        assert len({words for _, words in axis.ticks}) == len(axis.ticks)
        for place, words in axis.ticks:
            number = float(words.replace(",", ""))
            assert axis.at(number) == pytest.approx(place, abs=1e-6 * 500) or math.isclose(number, 0, abs_tol=1e-12)
