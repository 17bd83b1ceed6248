import importlib.util
import struct
import sys

import pytest

from finetune.errors import FinetuneError
from finetune.runs.compare import compare_runs
from finetune.runs.page.image import pareto_image
from finetune.runs.scatter import scatters
from tests.runs.builders import make_emissions, make_run, seeded

needs_matplotlib = pytest.mark.skipif(
    importlib.util.find_spec("matplotlib") is None, reason="the extra plot (matplotlib) is not installed"
)


def scatter():
    bound = make_run("b", emissions=make_emissions({"cpu": 0.002}, complete=False, energy_kwh_high=None))
    return scatters(compare_runs([make_run("a", name="costs $1 and $2"), bound, make_run("c", 0.2)]))[0]


@needs_matplotlib
def test_image_png_is_seven_inches_wide_at_three_hundred_dots():
    image = pareto_image(scatter(), "png")
    assert image.startswith(b"\x89PNG")
    width, height = struct.unpack(">II", image[16:24])
    assert (width, height) == (2109, 1101)


@needs_matplotlib
def test_image_draws_groups():
    runs = [*seeded("good", (0.90, 0.92), 0.01), *seeded("fair", (0.6, 0.61), 0.001, rate=5e-4)]
    assert pareto_image(scatters(compare_runs(runs))[0], "png").startswith(b"\x89PNG")


@needs_matplotlib
def test_image_pdf_is_the_same_each_time_and_has_letters():
    image = pareto_image(scatter(), "pdf")
    assert image.startswith(b"%PDF")
    assert b"/FontFile2" in image  # TrueType, which can be searched, not Type 3
    assert pareto_image(scatter(), "pdf") == image


def test_image_without_matplotlib_says_what_to_do(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(FinetuneError, match="png is drawn by matplotlib, which is not installed") as raised:
        pareto_image(scatter(), "png")
    assert ".svg" in raised.value.hint
