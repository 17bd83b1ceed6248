"""The pages in a real browser: they fit, they are quiet, and their controls do what they say."""

import re
from pathlib import Path

import pytest

from benchmarks.run_records import write_records
from finetune.cli.app import main
from finetune.runs.page.render import palette
from finetune.runs.page.table import SHOWN_ROWS
from finetune.runs.record import new_run_directory, write_run
from tests.browser import browser, why_not
from tests.runs.builders import QUICKSTART, STORED, seeded
from tests.runs.page.test_render import hostile_pages

pytestmark = pytest.mark.skipif(why_not() is not None, reason=str(why_not()))

DESKTOP, PHONE = (1280, 900), (390, 844)
ENTER, TAB, ESCAPE = "\ue007", "\ue004", "\ue00c"


@pytest.fixture(scope="module")
def window(tmp_path_factory):
    with browser(tmp_path_factory.mktemp("browser")) as opened:
        yield opened


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """Return pages by name: of two runs, of four in two sets, of 300, of three groups of seeds, and of one run."""
    folder = tmp_path_factory.mktemp("pages")
    write_records(folder / "many", 300)
    for name, score, kwh in (("good", 0.9, 0.01), ("fair", 0.7, 0.001), ("poor", 0.5, 0.02)):
        for run in seeded(name, (score, score + 0.01, score - 0.01), kwh, rate=score):
            write_run(run, new_run_directory(folder / "seeds", name))
    two = ["quickstart", "quickstart-scratch"]
    made = {
        "two": ["compare", *two, "--output-dir", str(STORED)],
        "sets": ["compare", "--output-dir", str(STORED)],
        "many": ["compare", "--output-dir", str(folder / "many")],
        "seeds": ["compare", "--output-dir", str(folder / "seeds")],
        "run": ["show", str(QUICKSTART)],
    }
    for name, arguments in made.items():
        assert main([*arguments, "--html", str(folder / f"{name}.html")]) == 0
    return {name: folder / f"{name}.html" for name in made}


@pytest.fixture
def opened(window, pages):
    """Return a function that opens a page with nothing remembered from before."""

    def go(name, size=DESKTOP, fragment="", **screen):
        window.screen(*size, **screen)
        window.open(Path("/dev/null"))  # else another fragment of the same page would not load it anew
        window.open(pages[name], fragment)
        return window

    yield go
    window.screen(*DESKTOP)


def rgb(colour):
    return f"rgb({', '.join(str(int(colour[place : place + 2], 16)) for place in (1, 3, 5))})"


def background(window):
    return window.script("return getComputedStyle(document.body).backgroundColor")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
@pytest.mark.parametrize("name", ["two", "sets", "many", "seeds", "run"])
def test_browser_page_fits_and_complains_about_nothing(opened, name, size, dark):
    window = opened(name, size, dark=dark)
    assert window.errors() == []
    assert window.script("return document.documentElement.scrollWidth") <= size[0]
    assert background(window) == rgb(palette()["bg"][dark])
    drawn = window.script("return [...document.querySelectorAll('svg.chart')].map((c) => c.checkVisibility())")
    assert sum(drawn) == len(drawn) / 2  # of each plot either the wide or the narrow one
    smallest = window.script(
        """return Math.min(...[...document.querySelectorAll('svg.chart')].filter((chart) => chart.checkVisibility())
            .map((chart) => 12 * chart.getBoundingClientRect().width / chart.viewBox.baseVal.width))"""
    )
    assert smallest >= 10, "the letters of a plot are too small to read"


def test_browser_theme_button_turns_the_theme_and_is_remembered(opened, pages):
    window = opened("two")
    light, dark = (rgb(colour) for colour in palette()["bg"])
    assert (background(window), window.texts("#theme")) == (light, ["Dark theme"])
    window.click("#theme")
    assert (becomes(window, dark), window.texts("#theme")) == (dark, ["Light theme"])
    window.open(pages["run"])
    assert becomes(window, dark) == dark
    window.click("#theme")
    assert becomes(window, light) == light
    window.script("localStorage.clear()")


def becomes(window, colour):
    """Return the background once it has a colour, or the one that it has kept."""
    window.wait_for(f"getComputedStyle(document.body).backgroundColor === '{colour}'")
    return background(window)


def energies(window):
    """Return the words of the column "energy", from top to bottom."""
    place = window.texts("#runs-table thead th").index("energy") + 1
    return [text.split("\n")[0] for text in window.texts(f"#runs-table tbody tr > :nth-child({place})")]


def kwh(words):
    number, unit = re.fullmatch(r"(?:≥ )?([\d.,]+) (k?Wh)", words).groups()
    return float(number.replace(",", "")) * (1 if unit == "kWh" else 0.001)


def test_browser_click_on_a_heading_sorts_and_says_so(opened):
    window = opened("many")
    place = window.texts("#runs-table thead th").index("energy") + 1
    heading = f"#runs-table thead th:nth-child({place})"
    window.click(f"{heading} button")
    values = [kwh(words) for words in energies(window)]
    assert values == sorted(values)
    assert window.script("return document.querySelector(arguments[0]).ariaSort", heading) == "ascending"
    window.click(f"{heading} button")
    values = [kwh(words) for words in energies(window)]
    assert values == sorted(values, reverse=True)
    assert len(window.script("return [...document.querySelectorAll('th[aria-sort]')]")) == 1


def test_browser_sorting_puts_what_was_not_measured_last_both_ways(opened):
    window = opened("sets")
    place = window.texts("#runs-table thead th").index("ranked energy") + 1
    for _ in range(2):
        window.click(f"#runs-table thead th:nth-child({place}) button")
        assert window.texts(f"#runs-table tbody tr > :nth-child({place})")[-1] == "not ranked"


def test_browser_filter_keeps_what_fits_in_table_plots_and_list(opened):
    window = opened("many")
    window.type("#filter", "bert-tiny 3-epochs")
    names = window.texts("#runs-table tbody th a")
    assert names
    assert set(names) == {"bert-tiny-3-epochs"}
    groups = window.texts("#groups-table tbody th")
    assert all(words.startswith("bert-tiny-3-epochs") for words in groups)
    assert window.texts("#count") == [f"{len(groups)} of 72 groups, {len(names)} of 300 runs"]
    assert len(window.texts("#runs summary")) == len(names)
    bright = window.script("return document.querySelectorAll('svg.wide a.mark:not(.off)').length")
    assert bright == len(groups)
    curves = window.script("return document.querySelectorAll('svg.wide .curve:not(.off)').length")
    assert curves == len(names)
    window.type("#filter", "no such run")
    assert window.texts("#count") == ["0 of 72 groups, 0 of 300 runs"]
    assert window.texts("#runs-table tbody th a") == []


def test_browser_groups_are_points_with_a_table_of_their_own(opened):
    window = opened("seeds")
    assert window.script("return document.querySelectorAll('svg.wide a.mark').length") == 3
    assert window.texts("#count") == ["3 groups, 9 runs"]
    assert window.texts("#groups-table tbody th") == [
        "good\n3 seeds",
        "fair\n3 seeds",
        "poor\n3 seeds\ndominated by good",
    ]
    window.hover("svg.wide a.mark.dominated .dot")
    [words] = window.texts("#tip")
    assert words.startswith("poor: mean score of 3 seeds 0.500 [0.475 to 0.525], 20.0 Wh")
    assert words.endswith("a run, dominated by good")
    window.script("document.querySelector('svg.wide a.mark.dominated').focus()")
    window.keys(ENTER)
    assert window.wait_for("document.querySelector('#groups-table tr:target th')?.innerText").startswith("poor")
    window.script("document.getElementById('groups').scrollIntoView()")
    heading = "#groups-table thead th:nth-child(3)"
    assert window.texts(heading) == ["energy"]
    window.click(f"{heading} button")
    assert [words.split()[0] for words in window.texts("#groups-table tbody th")] == ["fair", "good", "poor"]
    window.click("#front-only")
    assert window.texts("#count") == ["2 of 3 groups, 6 of 9 runs"]
    window.open(Path("/dev/null"))


def test_browser_filter_by_set_and_front(opened):
    window = opened("sets")
    window.script("const s = document.getElementById('set'); s.value = 'B'; s.dispatchEvent(new Event('change'))")
    assert window.texts("#runs-table tbody th a") == ["sst2", "sst2"]
    window.click("#front-only")
    assert window.texts("#count") == ["1 of 4 runs"]


def test_browser_long_table_is_cut_until_asked(opened):
    window = opened("many")
    assert len(window.texts("#runs-table tbody th a")) == SHOWN_ROWS
    assert window.texts("#table .more") == ["Show all 300 runs"]
    window.click("#table .more")
    assert len(window.texts("#runs-table tbody th a")) == 300
    assert window.texts("#table .more") == []


def test_browser_keyboard_alone_reaches_a_run_from_the_plot(opened):
    window = opened("two")
    window.script("document.querySelector('svg.wide a.mark').focus()")
    assert "score 0.9" in window.texts("#tip")[0]
    window.keys(ESCAPE)
    assert window.texts("#tip") == []
    window.keys(ENTER)
    # The page follows the link a moment after the key.
    assert window.wait_for("document.querySelector('#runs details[open] summary')?.innerText").startswith("quickstart")
    assert window.wait_for("document.activeElement.tagName === 'SUMMARY'")
    window.open(Path("/dev/null"))


def test_browser_keyboard_and_screen_reader_reach_a_learning_curve_and_its_numbers(opened):
    window = opened("two")
    curves = "[...document.querySelectorAll('svg.wide a.curve')]"
    names = window.script(f"return {curves}.map((curve) => curve.getAttribute('aria-label'))")
    assert sorted(name.split(":")[0] for name in names) == ["quickstart", "quickstart-scratch"]
    window.script(f"{curves}[0].focus()")
    assert window.texts("#tip") == [names[0]]
    assert window.script(f"return getComputedStyle({curves}[0].querySelector('polyline')).strokeWidth") == "3.5px"
    window.keys(ENTER)
    summary = window.wait_for("document.querySelector('#runs details[open] summary')?.innerText")
    assert summary.startswith(names[0].split(":")[0])
    captions = window.texts("#runs details[open] caption")
    assert "Evaluations on the validation rows" in captions
    [last] = [words for words in window.texts("#runs details[open] table:has(td:first-child) tbody tr:last-child")
              if words.count("\t") == 1]  # fmt: skip
    score, kwh = names[0].partition(": ")[2].split(" after ")
    assert last.split("\t") == [kwh, score]
    window.open(Path("/dev/null"))


def test_browser_tab_comes_to_the_skip_link_first_and_to_every_control(opened):
    window = opened("two")
    seen = []
    for _ in range(60):
        window.keys(TAB)
        seen.append(
            window.script("const e = document.activeElement; return e.id || e.className.baseVal || e.className")
        )
    assert seen[0] == "skip"
    assert {"theme", "filter", "front-only", "mark front", "curve c1", "button-like", "scroll"} <= set(seen)
    assert not {"s1", "s2"} & set(seen)  # parts of a bar are no controls: their names and numbers are in its label


def test_browser_pointer_on_a_mark_explains_it(opened):
    window = opened("two")
    window.script("document.getElementById('pareto').scrollIntoView()")
    window.hover("svg.wide a.mark.front .dot")
    [words] = window.texts("#tip")
    assert words.startswith("quickstart: score 0.950 [0.915 to 0.971], ")
    window.hover("h2")
    assert window.texts("#tip") == []


def test_browser_link_to_a_run_opens_it_even_beyond_the_cut(opened):
    window = opened("many", fragment="#run-299")
    assert window.script("return document.getElementById('run-299').open")
    assert window.script("return document.getElementById('run-299').checkVisibility()")


@pytest.mark.parametrize("name", ["two", "run"])
def test_browser_page_without_scripts_shows_everything(opened, name):
    window = opened(name, has_script=False)
    window.screen(*DESKTOP)  # asking needs scripts again; the page was opened without
    assert window.texts("#theme") + window.texts("#controls") == []
    assert window.texts("#pareto h2" if name == "two" else "#course h2")
    assert window.script("return document.querySelectorAll('.chart title').length") > 0
    assert window.texts("table th")


def test_browser_print_has_no_controls_and_all_rows(opened):
    window = opened("many", dark=True)
    window.screen(*DESKTOP, dark=True, media="print")
    assert len(window.texts("#runs-table tbody th a")) == 300
    assert window.texts(".top") + window.texts("#controls") + window.texts("#table .more") == []
    assert window.script("return getComputedStyle(document.querySelector('h1')).color") == rgb(palette()["text"][0])


@pytest.mark.parametrize("has_script", [True, False])
def test_browser_print_holds_what_is_folded_away(opened, has_script):
    window = opened("sets", has_script=has_script)
    folded = "#runs details .pairs, #runs details table"
    assert window.texts(folded) == []
    window.screen(*DESKTOP, media="print")
    if has_script:  # as the browser says it before it prints
        window.script("dispatchEvent(new Event('beforeprint'))")
        assert len(window.script("return [...document.querySelectorAll('details[open]')]")) >= 4
    assert len(window.texts(folded)) >= 4 * 3
    window.screen(*DESKTOP)
    if has_script:
        window.script("dispatchEvent(new Event('afterprint'))")
    assert window.texts(folded) == []


@pytest.mark.parametrize("name", ["sets", "run"])
def test_browser_print_fits_a_sheet(opened, name):
    sheet = (794, 1123)  # A4 at 96 dots an inch
    window = opened(name, sheet, media="print")
    assert window.script("return document.documentElement.scrollWidth") <= sheet[0]


def test_browser_runs_nothing_that_a_record_holds(window, tmp_path):
    for number, text in enumerate(hostile_pages(tmp_path)):
        path = tmp_path / f"{number}.html"
        path.write_text(text, encoding="utf-8")
        window.open(path)
        assert window.script("return window.hacked") is None
        assert window.errors() == []


def test_browser_policy_stops_a_script_that_is_not_ours(window, pages, tmp_path):
    path = tmp_path / "changed.html"
    text = pages["two"].read_text(encoding="utf-8")
    path.write_text(text.replace("<h1>", "<script>window.hacked = 1</script><h1>", 1), encoding="utf-8")
    window.open(path)
    assert window.script("return window.hacked") is None
    assert any("Content Security Policy" in message for message in window.errors())
