import unicodedata

import pytest

from finetune.audit.swaps import swap
from finetune.audit.terms import LANGUAGES, NEUTRAL, open_terms
from finetune.errors import FinetuneError

GENDER = {"woman": ("man",), "she": ("he",), "her": ("him", "his"), "a woman": ("a gentleman",), "muslims": ("Jews",)}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The woman said she would.", "The man said he would."),
        ("WOMAN! Woman? woman's", "MAN! Man? man's"),
        ("a woman", "a gentleman"),  # the longest term first
        ("womanly, a_woman, @woman #woman she-wolf", "womanly, a_woman, @woman #woman she-wolf"),
        ("Muslims and muslims", "Jews and Jews"),
        ("nothing here", "nothing here"),
    ],
)
def test_swaps_change_whole_words_in_their_case(text, expected):
    assert swap(text, GENDER).text == expected


def test_swaps_leave_an_ambiguous_term_and_say_so():
    found = swap("she saw her", GENDER)
    assert (found.text, found.count, found.ambiguous) == ("he saw her", 1, True)


def test_swaps_stop_at_the_limit():
    assert swap("she and she and she", GENDER, 2).text == "he and he and she"


def test_swaps_tell_a_text_that_names_the_other_group_too():
    target = frozenset({"man", "men", "old man"})
    assert swap("a woman and an old man", GENDER, target_terms=target).names_target
    assert not swap("a woman and a manager", GENDER, target_terms=target).names_target
    assert swap("the women and men", {"women": ("men",)}, target_terms=target).text == "the men and men"


def test_swaps_find_accents_and_apostrophes_as_people_write_them():
    terms = open_terms("pt")
    mother = next(one for one in terms.directions if one.name == "feminino → masculino").counterparts
    decomposed = unicodedata.normalize("NFD", "Minha MÃE, sua avó e a irmã; não é maçã")
    found = swap(decomposed, mother)
    assert found.count == 3
    assert found.text == unicodedata.normalize("NFD", "Meu pai, sua avô e o irmão; não é maçã")
    assert swap(unicodedata.normalize("NFD", "áela elá"), mother).count == 0  # an accent is part of its word
    assert swap("I don’t and don't", {"don't": ("do not",)}).text == "I do not and do not"


def test_swaps_know_titles_and_take_the_first_of_several_words():
    directions = {one.name: one for one in open_terms("en").directions}
    to_male, to_female = directions["female → male"], directions["male → female"]
    assert swap("Mrs Weber, a mum; hers", to_male.counterparts).text == "Mr Weber, a dad; his"
    found = swap("Mr Weber, a dad; his dog", to_female.counterparts)
    assert (found.text, found.ambiguous) == ("Ms Weber, a mom; her dog", False)
    assert swap("young people", directions["young → old"].counterparts).text == "old people"
    assert swap("elderly people", directions["old → young"].counterparts).text == "young people"
    assert swap("I saw her", to_male.counterparts).ambiguous
    jovens = next(one for one in open_terms("pt").directions if one.name == "jovens → idosos")
    assert swap("os jovens e uma jovem", jovens.counterparts).text == "os idosos e uma idosa"
    names = next(one for one in open_terms("pt").directions if one.name == "masculino → feminino")
    assert swap("e aí cara, que cara feia", names.counterparts).count == 0  # said to anybody, and a face


# Words that agree with others: no neutral word may stand for one of another number, person or gender.
AGREEING = {
    "en": {"the", "this", "that", "is", "are", "was", "were", "am", "be", "a", "an"},
    "pt": {"é", "era", "são", "eram", "está", "estava", "vai", "vou", "tem", "tinha", "quero", "queria", "o", "a"},
}


@pytest.mark.parametrize("language", LANGUAGES)
def test_swaps_neutral_words_break_no_agreement(language):
    neutral = open_terms(language).neutral
    assert not AGREEING[language] & {*neutral, *(other for others in neutral.values() for other in others)}
    for term, (other, *_) in neutral.items():
        if term in ("esse", "essa", "esses", "essas", "nesse", "nessa", "desse", "dessa", "deste", "desta"):
            assert term.endswith("s") is other.endswith("s"), term
            assert term.rstrip("s").endswith("a") is other.rstrip("s").endswith("a"), term


def test_swaps_know_accents_and_agreement_that_stands_in_the_list():
    terms = open_terms("pt")
    direction = next(one for one in terms.directions if one.name == "feminino → masculino")
    found = swap("Minha MÃE e a mulher; avó, maemae", direction.counterparts).text
    assert "o homem" in found
    assert "avô" in found
    assert found.endswith("maemae")


@pytest.mark.parametrize("language", LANGUAGES)
def test_swaps_built_in_lists_are_whole(language):
    terms = open_terms(language)
    assert len(terms.directions) >= 14
    identity = {term for direction in terms.directions for term in direction.counterparts}
    assert not identity & set(terms.neutral)
    assert all(direction.dimension != NEUTRAL for direction in terms.directions)
    for direction in terms.directions:  # there and back again, where nothing is ambiguous
        back = next(one for one in terms.directions if (one.source, one.target) == (direction.target, direction.source))
        for term, others in direction.counterparts.items():
            for other in others:
                assert set(map(str.casefold, back.counterparts[other.casefold()])) & set(direction.counterparts), term


def test_swaps_own_list_keeps_the_neutral_words_of_the_language(tmp_path):
    own = tmp_path / "own.csv"
    own.write_text("dimension,form,group,term\nclub,a,red,redshirt\nclub,a,blue,blueshirt\n")
    terms = open_terms("en", own)
    assert [direction.name for direction in terms.directions] == ["red → blue", "blue → red"]
    assert terms.neutral == open_terms("en").neutral
    assert open_terms("xx", own).neutral == {}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("a,b\n1,2\n", "the columns dimension, form, group, term"),
        ("dimension,form,group,term\nx,1,a,\n", "a cell is empty"),
        ("dimension,form,group,term\nx,1,a,one\nx,2,b,two\n", "no two groups"),
    ],
)
def test_swaps_refuse_a_list_that_cannot_be_used(content, said, tmp_path):
    (tmp_path / "own.csv").write_text(content)
    with pytest.raises(FinetuneError, match=said):
        open_terms("en", tmp_path / "own.csv")


def test_swaps_refuse_a_language_without_a_list():
    with pytest.raises(FinetuneError, match="'de'"):
        open_terms("de")
