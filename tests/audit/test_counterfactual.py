import numpy
import pytest

from finetune.audit.counterfactual import Answer, judge_swaps, plan_swaps
from finetune.audit.terms import open_terms

TERMS = """\
dimension,form,group,term
planted,1,x,ax
planted,1,y,by
free,1,u,cu
free,1,v,dv
neutral,1,a,one
neutral,1,b,two
"""


@pytest.fixture(scope="module")
def terms(tmp_path_factory):
    path = tmp_path_factory.mktemp("terms") / "terms.csv"
    path.write_text(TERMS)
    return open_terms("en", path)


def rows(count=60, seed=0):
    draw = numpy.random.default_rng(seed)
    words = [(draw.choice(["ax", "by"]), draw.choice(["cu", "dv"]), draw.choice(["one", "two"])) for _ in range(count)]
    return [{"text": f"{number} {' '.join(chosen)}"} for number, chosen in enumerate(words)]


def model(shift, noise=0.0, seed=1):
    """Return a model whose score is a noise of each text, and more by `shift` where it says ax."""
    kept = {}

    def answer(asked):
        draw = numpy.random.default_rng(seed)
        found = []
        for row in asked:
            base = kept.setdefault(row["text"].split()[0], 0.5 + noise * draw.standard_normal())
            score = base + shift * ("ax" in row["text"]) + noise * draw.standard_normal()
            found.append(Answer(score > 0.55, score))
        return found

    return answer


def found_by(result, measure):
    return {finding.group: finding for finding in result.findings if finding.measure == measure}


@pytest.mark.parametrize("shift", [0.0, 0.04, 0.2, -0.3])
def test_counterfactual_gives_a_known_offset_back(terms, shift):
    gaps = found_by(judge_swaps(plan_swaps(rows(), terms), model(shift), 0.95), "score gap")
    assert gaps["planted: x → y"].value == pytest.approx(-shift)
    assert gaps["planted: y → x"].value == pytest.approx(shift)
    assert gaps["free: u → v"].value == pytest.approx(0)
    assert (gaps["planted: x → y"].low <= 0 <= gaps["planted: x → y"].high) is (shift == 0)
    assert gaps["planted: x → y"].to_json()["flagged"] is None  # some gap any two words have


def test_counterfactual_flips_are_those_beyond_the_neutral_swap(terms):
    result = judge_swaps(plan_swaps(rows(), terms), model(0.2), 0.95)
    flips = found_by(result, "flips beyond neutral")
    planted, free = flips["planted: y → x"], flips["free: v → u"]
    assert planted.value == 100
    assert planted.detail["flips"] == planted.detail["texts"] == planted.n
    assert planted.p_adjusted < 0.05
    assert (free.value, free.p) == (0, 1)
    assert free.low < 0 < free.high


def test_counterfactual_neutral_flips_are_taken_off(terms):
    def flips_with_any_word(asked):
        return [Answer((row["text"].split()[-1], row["text"].split()[1])) for row in asked]

    flips = found_by(judge_swaps(plan_swaps(rows(), terms), flips_with_any_word, 0.95), "flips beyond neutral")
    assert flips["planted: x → y"].value == 0
    assert flips["planted: x → y"].detail["neutral_flips"] == flips["planted: x → y"].n
    assert flips["free: u → v"].value == -100  # only the neutral word changes those answers


@pytest.mark.slow
def test_counterfactual_flags_one_in_twenty_at_most_when_nothing_is_there(terms):
    flagged = 0
    for seed in range(100):
        result = judge_swaps(plan_swaps(rows(40, seed), terms), model(0.0, noise=0.1, seed=seed), 0.95)
        flagged += any(finding.p_adjusted is not None and finding.p_adjusted <= 0.05 for finding in result.findings)
    assert flagged <= 5


def test_counterfactual_tests_nothing_on_a_handful_of_texts(terms):
    few = judge_swaps(plan_swaps([{"text": "1 ax one"}, {"text": "2 ax one"}], terms), model(0.2), 0.95)
    assert [(finding.n, finding.p, finding.to_json()["flagged"]) for finding in few.findings] == [(2, None, None)] * 2


def test_counterfactual_samples_and_counts_what_it_leaves_out(terms):
    swaps = plan_swaps(rows(60), terms, limit=10)
    assert [len(changes) for _, changes in swaps.changes] == [10] * 4
    assert swaps.left_out["beyond the sample"] == 2 * 60 - 40
    assert plan_swaps(rows(60), terms, limit=10) == swaps


def test_counterfactual_leaves_out_texts_that_name_both_groups(terms):
    swaps = plan_swaps([{"text": "ax and by one"}, {"text": "ax alone one"}], terms)
    assert [(direction.name, len(changes)) for direction, changes in swaps.changes] == [("x → y", 1)]
    assert swaps.left_out["names both groups"] == 2  # in either direction


def test_counterfactual_neutral_swap_exchanges_as_many_words(terms):
    [(_, changes)] = plan_swaps([{"text": "ax ax one"}, {"text": "ax ax one two one"}], terms).changes
    assert changes[0].neutral is None
    assert changes[1].neutral == {"text": "ax ax two one one"}


def test_counterfactual_streams_its_texts_into_a_sample_of_all(terms):
    places = [
        int(change.text["text"].split()[0])
        for _, changes in plan_swaps(({"text": f"{number} ax one"} for number in range(1000)), terms, 50).changes
        for change in changes
    ]
    assert places == sorted(places)
    assert len(places) == 50
    assert places[0] < 200 < 800 < places[-1]


def test_counterfactual_without_a_term_says_so(terms):
    result = judge_swaps(plan_swaps([{"text": "nobody"}], terms), model(0.0), 0.95)
    assert result.to_json(0.95) is None
    assert "no text" in result.reason
