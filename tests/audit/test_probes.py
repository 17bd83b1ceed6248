"""How probes are opened, told apart and recorded, on a stub model."""

import pytest

from finetune.audit.cases import EvaluationTexts, Grouped
from finetune.audit.probes import AFTER, BEFORE, TASK, Subject, look, open_probes, record_results
from finetune.errors import FinetuneError
from finetune.recipe.bias_keys import bias_probes
from finetune.tasks import LabelScheme

TERMS = "dimension,form,group,term\nkind,1,x,ax\nkind,1,y,by\nneutral,1,a,one\nneutral,1,b,two\n"
LABELS = LabelScheme("single_label_classification", ("fine", "bad"))
NUMBER = LabelScheme("regression")


class Stub:
    """Says bad of a text with ax, of which it reads the first words."""

    def __init__(self, words=99):
        self.words = words

    def __call__(self, rows):
        bad = ["ax" in row["text"].split()[: self.words] for row in rows]
        return [
            {"prediction": "bad" if is_bad else "fine", "probabilities": {"bad": float(is_bad), "fine": 1.0 - is_bad}}
            for is_bad in bad
        ]

    def encoded(self, rows):
        return [" ".join(row["text"].split()[: self.words]).encode() for row in rows]


class Number(Stub):
    def __call__(self, rows):
        return [{"prediction": 0.3 + 0.1 * ("ax" in row["text"])} for row in rows]


def texts(words, name="", regions=None):
    rows = [{"text": text} for text in words]
    truths = ["bad" if "ax" in text else "fine" for text in words]
    return EvaluationTexts(
        name, repr(words), lambda: rows, lambda column, columns: Grouped(lambda: rows, truths, regions or ())
    )


def put(settings, own, said=None, labels=LABELS, languages=()):
    [probe] = open_probes(bias_probes([settings]), labels, lambda: own, TASK)
    subject = Subject(said or Stub(), None, lambda: (None, "none"), languages)
    return probe, look(probe, subject, 0.95)


@pytest.fixture
def swaps(tmp_path):
    (tmp_path / "terms.csv").write_text(TERMS)
    return {"probe": "swaps", "language": "en", "terms": str(tmp_path / "terms.csv")}


def recorded(section, when, known=None):
    return record_results([section[0]], [section[1]], when, known, 0.95)


def test_probes_of_other_texts_and_terms_stand_beside_each_other(swaps, tmp_path):
    own, others = texts(["1 ax one", "2 by one"]), texts(["3 ax one"], "other.csv")
    before = recorded(put(swaps, own), BEFORE)
    both = recorded(put(swaps, own), AFTER, before)
    [entry] = both["probes"]
    assert entry["before"]["findings"] == entry["after"]["findings"]
    known = recorded(put(swaps, others), AFTER, both)["probes"]
    assert known[0] == entry
    assert (known[1]["data"], known[1]["before"]) == ("terms.csv in other.csv", None)
    assert "not probed so before" in known[1]["before_reason"]
    (tmp_path / "terms.csv").write_text(TERMS.replace("ax", "cx"))
    changed = recorded(put(swaps, own), AFTER, both)["probes"]
    assert changed[0] == entry
    assert changed[1]["before"] is None
    assert len({one["fingerprint"] for one in [*known, *changed]}) == 3


def test_probes_by_column_are_told_apart_by_rows_and_groups():
    words = ["1 ax", "2 by"]
    settings = {"probe": "groups", "column": "region"}
    prints = {
        put(settings, texts(rows, regions=regions))[0].head["fingerprint"]
        for rows, regions in ((words, ["n", "s"]), (words, ["s", "n"]), (["1 ax", "3 by"], ["n", "s"]))
    }
    assert len(prints) == 3


def test_probes_do_not_count_a_swap_that_the_model_cannot_read(swaps):
    own = texts([f"{number} one ax" for number in range(4)] + ["4 one two ax", "5 one two by"])
    result = put(swaps, own, Stub(words=3))[1]
    flips = next(one for one in result.findings if one.group == "kind: x → y")
    assert (flips.detail["texts"], flips.detail["flips"]) == (4, 4)
    assert result.left_out["the model reads the same: cut off, or unknown words"] == 2
    cut = put(swaps, own, Stub(words=2))[1]
    assert cut.to_json(0.95) is None
    assert "left out (the model reads the same: cut off, or unknown words: 6)" in cut.reason


def test_probes_count_no_flips_of_a_number(swaps):
    own = texts([f"{number} one ax" for number in range(8)])
    flips, gap = put(swaps, own, Number(), NUMBER)[1].findings
    assert (flips.measure, flips.value, flips.n, flips.to_json()["flagged"]) == ("flips beyond neutral", None, 0, None)
    assert "any change is a flip" in flips.made_of
    assert (gap.measure, gap.value) == ("score gap", pytest.approx(-0.1))


def test_probes_must_be_in_a_language_of_the_model(swaps):
    own = texts(["1 ax one"])
    assert "the model's language is stated as pt" in put(swaps, own, languages=("pt-BR",))[1].reason
    for stated in ((), ("en",), ("multilingual",), ("pt", "en")):
        assert put(swaps, own, languages=stated)[1].reason is None


def test_probes_take_some_groups_of_a_file(tmp_path):
    words = {"p": "ax", "q": "by", "r": "ax", "": "ax"}
    lines = [f"{number} {word},hateful,{group},{number}" for number in range(6) for group, word in words.items()]
    (tmp_path / "cases.csv").write_text("\n".join(["text,label,target,template_id", *lines, "6 ax,,p,6"]))
    settings = {"probe": "groups", "file": str(tmp_path / "cases.csv"), "language": "en", "hateful_label": "bad"}
    whole = put(settings, None)[1]
    assert [one.group for one in whole.findings] == ["p", "q", "r"]
    assert (whole.left_out["names no group"], whole.left_out["has no label"]) == (6, 1)
    some = put({**settings, "only_groups": ["p", "q"]}, None)[1]
    assert [(one.group, one.value) for one in some.findings] == [("p", -100), ("q", 100)]
    assert some.left_out["of other groups"] == 12
    with pytest.raises(FinetuneError, match="no case is of the group 's'; there are p, q and r"):
        put({**settings, "only_groups": ["p", "s"]}, None)
