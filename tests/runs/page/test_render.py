import json
import re
from html.parser import HTMLParser
from itertools import pairwise
from xml.etree import ElementTree

import pytest

from finetune.runs.compare import compare_runs
from finetune.runs.comparison import Grid
from finetune.runs.page.render import TEMPLATES, comparison_html, palette, pareto_svg, run_html
from finetune.runs.record import list_runs, read_run
from finetune.runs.scatter import scatters
from tests.runs.builders import QUICKSTART, SCRATCH, STORED, make_emissions, make_run

HOSTILE = "\"><script>window.hacked=1</script><img src=x onerror=window.hacked=1> ' javascript:x </style></svg>"
VOID = {"meta", "link", "br", "img", "input"}


class Page(HTMLParser):
    """The elements of a page, with the text of each kind."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.elements, self.text, self._open = [], {}, []
        self.feed(text)
        assert self._open == [], "every element is closed"

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if self._open:
            self.text[self._open[-1]] = self.text.get(self._open[-1], "") + data


def stored():
    return [read_run(QUICKSTART), read_run(SCRATCH)]


def hostile_run(tmp_path=None):
    emissions = make_emissions({"cpu": 0.001}, notes=[HOSTILE])
    emissions["phases"][HOSTILE] = {"energy_kwh": 0.001, "components": {}}
    emissions["components"][HOSTILE] = {"energy_kwh": 0.001, "method": HOSTILE, "detail": HOSTILE}
    emissions["carbon_intensity"]["location"] = HOSTILE
    emissions["forecasts"] = [{"at_step": HOSTILE, "energy_kwh": 0.1}]
    score = {"value": 0.5, "low": 0.4, "high": 0.6, "n": 9}
    fields = {
        "name": HOSTILE, "tags": (HOSTILE,), "status": "stopped", "status_reason": HOSTILE, "command": HOSTILE,
        "emissions": emissions, "recipe": {"training": {HOSTILE: HOSTILE, "list": [HOSTILE]}},
        "dataset": {"path": HOSTILE, "fingerprint": HOSTILE, "rows": {HOSTILE: 3}},
        "model": {"name_or_path": HOSTILE, "model_type": HOSTILE, "init": HOSTILE},
        "metrics": {"test": {HOSTILE: score}, HOSTILE: {HOSTILE: score}}, "baselines": {HOSTILE: {HOSTILE: score}},
        "main_metric": {"name": HOSTILE, "split": HOSTILE, **score}, "hardware": {HOSTILE: HOSTILE},
        "timeline": tuple({"step": HOSTILE, "energy_kwh": kwh, "metrics": {HOSTILE: 0.5}} for kwh in (0.1, 0.2)),
    }  # fmt: skip
    if tmp_path is not None:
        row = json.dumps({"reference": HOSTILE, "prediction": f"{HOSTILE}2"})
        (tmp_path / "predictions-test.jsonl").write_text(row + "\n")
        fields["directory"] = tmp_path
    return make_run(HOSTILE, **fields)


def hostile_pages(tmp_path):
    runs = [hostile_run(tmp_path), make_run("b", recipe={"training": {HOSTILE: 1}})]
    comparison = compare_runs(runs, grid=Grid(HOSTILE, 5.0, HOSTILE))
    return comparison_html(comparison, (HOSTILE,)), run_html(runs[0])


def test_render_page_takes_no_markup_from_a_record(tmp_path):
    for text in hostile_pages(tmp_path):
        page = Page(text)
        tags = [tag for tag, _ in page.elements]
        assert (tags.count("script"), tags.count("style"), tags.count("img")) == (1, 1, 0)
        assert "window.hacked=1" in page.text["dd"]  # it is there, as words
        for _, attributes in page.elements:
            assert not [name for name in attributes if name.startswith("on") or name in ("style", "src")]
            assert attributes.get("href", "#").startswith("#")


def test_render_svg_takes_no_markup_from_a_record():
    drawing = pareto_svg(scatters(compare_runs([hostile_run()]))[0])
    names = {element.tag.rpartition("}")[2] for element in ElementTree.fromstring(drawing).iter()}
    assert names == {"svg", "title", "style", "rect", "g", "line", "text", "path", "circle"}
    assert "var(" not in drawing  # programs that make figures do not know variables


@pytest.mark.parametrize("make", [lambda: comparison_html(compare_runs(stored())), lambda: run_html(stored()[0])])
def test_render_page_is_whole_by_itself_and_says_so_to_the_browser(make):
    import base64
    import hashlib

    page = Page(make())
    for _, attributes in page.elements:
        assert not {"src", "srcset", "data", "action"} & set(attributes)
        assert attributes.get("href", "#").startswith("#")
    [policy] = [a["content"] for tag, a in page.elements if tag == "meta" and "http-equiv" in a]
    assert policy.startswith("default-src 'none'; ")
    for tag in ("style", "script"):
        digest = base64.b64encode(hashlib.sha256(page.text[tag].encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
        assert not re.search(r"https?:|//cdn|@import|url\(|fetch\(|XMLHttpRequest|eval\(|innerHTML", page.text[tag])


@pytest.mark.parametrize("make", [lambda: comparison_html(compare_runs(stored())), lambda: run_html(stored()[0])])
def test_render_page_has_names_and_one_id_each(make):
    page = Page(make())
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    links = {attributes["href"][1:] for tag, attributes in page.elements if tag == "a"}
    assert links <= set(ids)
    assert [tag for tag, _ in page.elements].count("h1") == 1
    for tag, attributes in page.elements:
        if tag == "svg":
            assert attributes.get("aria-hidden") == "true" or attributes.get("aria-label"), "a drawing without a name"
        assert attributes.get("aria-labelledby", ids[0]) in ids
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert all(following - level <= 1 for level, following in pairwise(levels))


def test_render_page_says_what_was_not_measured():
    runs = [make_run("a"), make_run("dark", emissions={}), make_run("scoreless", main_metric={}, metrics={})]
    text = comparison_html(compare_runs(runs))
    assert "energy not measured" in text
    assert "not measured" in Page(text).text["td"]
    assert "None" not in text
    assert "nan" not in Page(text).text["td"].lower()
    assert "None" not in run_html(runs[1])


def test_render_page_shows_several_sets_apart():
    text = comparison_html(compare_runs([make_run("a"), make_run("b", dataset={"path": "x", "fingerprint": "f2"})]))
    assert "Set A: accuracy on test" in text
    assert "Set B: accuracy on test" in text
    assert "not ranked together" in text


def test_render_page_holds_no_home_path_no_token_and_no_override_of_direction(monkeypatch):
    monkeypatch.setenv("HOME", "/home/ada")
    run = make_run(
        "a",
        name="a\u202egnp.exe\x1b[31m",
        command="finetune run /home/ada/secret.yaml",
        recipe={"hub": {"token": "hf_abcdefghijklmnopqrstuvwx"}, "name": "x"},
        dataset={"path": "../../home/ada/data.csv", "fingerprint": "f"},
    )
    for text in (comparison_html(compare_runs([run]), ("note on /home/ada/runs/x",)), run_html(run)):
        for private in ("/home/ada", "hf_abcdefghij", "\u202e", "\x1b"):
            assert private not in text
        assert "~/secret.yaml" in text


def test_render_run_page_has_its_parts(tmp_path):
    text = run_html(stored()[0])
    for words in ("Course of the run", "majority class", "Energy by phase", "modelled", "learning_rate", "preprocess"):
        assert words in text
    assert "1,000 predictions" in text
    assert "Confusion matrix" not in text  # no predictions beside the stored record
    assert "Forecasts" not in text
    entry = {"at_step": 10, "share": 0.25, "energy_kwh": 0.002, "low": 0.001, "high": 0.003, "emissions_g": 0.2,
             "duration_s": 60.0, "error": -0.034}  # fmt: skip
    forecast = run_html(make_run("a", emissions=make_emissions({"cpu": 0.001}, forecasts=[entry, {"at_step": 20}])))
    for words in ("step 10", "25 %", "1.00–3.00 Wh", "-3 %", "step 20"):
        assert words in forecast


def test_render_run_page_of_every_stored_run():
    runs, _ = list_runs(STORED)
    assert {run.status for run in runs} == {"completed", "stopped", "interrupted", "failed"}
    for run in runs:
        text = run_html(run)
        assert Page(text).text["h1"] == run.name
        assert run.status in text


def test_render_run_page_shows_what_stands_beside_the_total():
    emissions = make_emissions(
        {"cpu": 0.001}, idle={"duration_s": 20.0, "watts": {"cpu": 12.0}}, tracking_overhead_s=0.5
    )
    text = run_html(make_run("a", emissions=emissions))
    assert "Beside the total, and not in it" in text
    assert "cpu 12.0 W" in text


def test_render_page_shows_groups_of_seeds_above_the_runs():
    runs = [
        make_run(
            f"{init}-{seed}",
            score + 0.01 * seed,
            name=init,
            recipe={"model": {"init": init}, "training": {"seed": seed}},
        )
        for init, score in (("pretrained", 0.9), ("scratch", 0.4))
        for seed in (1, 2, 3)
    ]
    text = comparison_html(compare_runs(runs))
    page = Page(text)
    assert "Groups by seed" in text
    assert "3 seeds" in page.text["small"]
    assert "0.920 ± 0.025" in text  # 4.303 · 0.01 / √3
    assert text.index('id="groups"') < text.index('id="table"')
    assert 'id="groups"' not in comparison_html(compare_runs(runs[:1]))
    # The best mean, not the best of all seeds; energy and time of a run on average.
    assert re.search(r"Best accuracy on test</dt><dd>0\.920<small>pretrained, mean of 3 seeds, interval", text)
    assert "2 groups" in re.search(r"On the Pareto front</dt><dd>([^<]*)", text)[1]
    assert re.findall(r'class="bar-name">([^<]*)</span><span class="bar-total">([^<]*)', text)[:2] == [
        ("pretrained", "3.00 Wh"),
        ("scratch", "3.00 Wh"),
    ]
    assert text.count('class="mark ') == 2 * 2  # wide and narrow
    [scatter] = scatters(compare_runs(runs))
    assert pareto_svg(scatter).count('class="mark ') == 2


def test_render_best_reading_is_of_a_run_that_came_to_its_end():
    text = comparison_html(compare_runs([make_run("done", 0.7), make_run("cut", 0.9, status="interrupted")]))
    assert re.search(r"<dd>0\.700<small>done", text)


def test_render_page_folds_away_what_is_many():
    runs = [make_run(f"r{number}", 0.5, emissions={}) for number in range(20)]
    text = comparison_html(compare_runs(runs, baseline=runs[0]))
    assert text.count("r3 against r0") == 1
    assert "12 more" in text  # of 20 notes
    assert "14 more" in text  # of 19 sentences


def luminance(colour):
    channels = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    """Return the contrast of WCAG 2: 1 to 21."""
    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def mixed(share, colour, ground):
    channels = [
        share * int(colour[place : place + 2], 16) + (1 - share) * int(ground[place : place + 2], 16)
        for place in (1, 3, 5)
    ]
    return "#" + "".join(f"{round(channel):02x}" for channel in channels)


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_render_colours_can_be_told_apart_as_wcag_asks(theme):
    colour = {name: pair[theme] for name, pair in palette().items()}
    for ground in ("bg", "surface", "tint"):
        for words in ("text", "soft", "accent", "warn"):
            assert contrast(colour[words], colour[ground]) >= 4.5, f"{words} on {ground}"
    for mark in ("accent", "grey", "edge", *(f"c{number}" for number in range(1, 9))):
        for ground in ("bg", "surface"):
            assert contrast(colour[mark], colour[ground]) >= 3, f"{mark} on {ground}"
    for shade in ("accent", "c3"):  # the strongest shades of a confusion matrix
        assert contrast(colour["text"], mixed(0.46, colour[shade], colour["surface"])) >= 4.5, shade
    style = (TEMPLATES / "chart.css").read_text(encoding="utf-8")
    assert not re.search(r"[ ;{]opacity", style)  # no line of a plot is faint as a whole
    for share in map(float, re.findall(r"stroke-opacity: ([\d.]+)", style)):  # bands and intervals
        for mark in ("soft", "accent", *(f"c{number}" for number in range(1, 9))):
            assert contrast(mixed(share, colour[mark], colour["surface"]), colour["surface"]) >= 3, f"{mark} at {share}"
