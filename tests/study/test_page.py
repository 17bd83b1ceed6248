"""The page of a study in a real browser: it fits, it is quiet, and points explain themselves."""

import pytest

from finetune.runs.page.render import palette
from finetune.study.findings import findings
from finetune.study.page import study_html
from tests.browser import browser, why_not

pytestmark = pytest.mark.skipif(why_not() is not None, reason=str(why_not()))

DESKTOP, PHONE = (1280, 900), (390, 844)


@pytest.fixture(scope="module")
def window(tmp_path_factory):
    with browser(tmp_path_factory.mktemp("browser")) as opened:
        yield opened


@pytest.fixture
def page(window, make_study, tmp_path):
    """Return the window with the page of a study whose answer is known."""
    path = tmp_path / "study.html"
    path.write_text(study_html(findings(make_study(pretraining="40 kWh, says its paper"))), encoding="utf-8")
    window.screen(*DESKTOP)
    window.open(path)
    return window


def rgb(colour):
    return f"rgb({', '.join(str(int(colour[place : place + 2], 16)) for place in (1, 3, 5))})"


def test_page_fits_every_screen_in_both_themes_and_complains_about_nothing(page):
    for width, height in (DESKTOP, PHONE):
        for dark in (False, True):
            page.screen(width, height, dark=dark)
            assert page.script("return document.documentElement.scrollWidth") <= width
            background = rgb(palette()["bg"][dark])
            assert page.wait_for(f"getComputedStyle(document.body).backgroundColor === '{background}'")
            smallest = page.script(
                """return Math.min(...[...document.querySelectorAll('svg.chart')].filter((c) => c.checkVisibility())
                    .map((chart) => 12 * chart.getBoundingClientRect().width / chart.viewBox.baseVal.width))"""
            )
            assert smallest >= 10, "the letters of a chart are too small to read"
    assert page.errors() == []


def test_page_follows_clicks_pointer_and_printer(page):
    light, dark = (rgb(colour) for colour in palette()["bg"])
    for colour in (dark, light):
        page.click("#theme")
        assert page.wait_for(f"getComputedStyle(document.body).backgroundColor === '{colour}'")
    page.click("nav a[href='#reach']")
    assert page.wait_for("document.getElementById('reach').getBoundingClientRect().top < innerHeight")
    page.script("document.getElementById('curves').scrollIntoView()")
    page.hover("svg.wide .curve circle")
    assert page.texts("#tip")[0].startswith("full on 100 rows: 0.6")
    page.hover("h2")
    assert page.texts("#tip") == []
    # Every point of a chart is a line of the table, which the keyboard reaches and a screen reader reads.
    points = page.script("return document.querySelectorAll('svg.wide')[0].querySelectorAll('circle').length")
    assert points == page.script("return document.querySelectorAll('#cells tbody tr').length")
    page.screen(794, 1123, dark=True, media="print")
    assert page.texts(".top") == []
    assert page.script("return document.documentElement.scrollWidth") <= 794
    assert page.script("return getComputedStyle(document.querySelector('h1')).color") == rgb(palette()["text"][0])
