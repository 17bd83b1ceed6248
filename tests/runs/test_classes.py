import pytest

from finetune.runs.classes import ClassCounts
from finetune.runs.mistakes import look_through


def lines_of(*pairs, **more):
    return [{"row": row, "reference": true, "prediction": said, **more} for row, (true, said) in enumerate(pairs, 1)]


def tables_of(problem_type, names, *pairs):
    counts = ClassCounts(problem_type, names)
    for line in lines_of(*pairs):
        assert counts.add(line)
    return counts.tables()


def scores_of(tables, name):
    [row] = [row for row in tables.per_class if row["name"] == name]
    return row["rows"], row["precision"], row["recall"], row["f1"]


def test_classes_of_several_labels_are_counted_label_by_label():
    pairs = [(["a"], ["a", "b"]), (["a", "b"], ["a"]), ([], []), (["b"], ["b"])]
    tables = tables_of("multi_label_classification", ["b", "a"], *pairs)
    assert (tables.classes, tables.matrix, tables.n) == (("b", "a"), None, 4)
    assert scores_of(tables, "a") == (2, 1.0, 1.0, 1.0)
    assert scores_of(tables, "b") == (2, 0.5, 0.5, 0.5)


def test_classes_of_tags_are_counted_word_by_word_without_those_that_have_none():
    tables = tables_of("tags", ["NOUN", "VERB"], (["NOUN", None, "VERB"], ["NOUN", "VERB", "NOUN"]))
    assert (tables.unit, tables.matrix) == ("word", [[1, 0], [1, 0]])


def test_classes_of_entities_count_whole_entities_of_the_right_type():
    names = ["O", "B-PER", "I-PER", "B-ORG", "I-ORG"]
    true = [["B-PER", "I-PER", "O", "B-ORG"], ["O", "B-ORG", "I-ORG"], ["B-PER", "O"]]
    said = [["B-PER", "O", "O", "B-ORG"], ["O", "B-ORG", "I-ORG"], ["B-ORG", "O"]]
    tables = tables_of("entities", names, *zip(true, said, strict=True))
    assert (tables.unit, tables.matrix, tables.n) == ("entity", None, 4)
    assert scores_of(tables, "PER") == (2, 0.0, 0.0, 0.0)
    assert scores_of(tables, "ORG") == pytest.approx((2, 2 / 3, 1.0, 4 / 5))


def test_classes_of_spans_are_counted_by_their_characters():
    spans = [{"start": 0, "end": 3, "label": "PER"}, {"start": 9, "end": 12, "label": "PER"}]
    said = [{"entity_group": "PER", "start": 0, "end": 3, "score": 0.9}]
    assert scores_of(tables_of("entities", ["O", "B-PER", "I-PER"], (spans, said)), "PER")[:3] == (2, 1.0, 0.5)


def test_mistakes_are_the_surest_wrong_answers_first():
    sure = [0.6, 0.99, 0.9, 0.7]
    answers = [("a", "b"), ("a", "a"), ("b", "a"), ("a", "b")]
    lines = [line | {"probability": value} for line, value in zip(lines_of(*answers), sure, strict=True)]
    found = look_through(lines, "single_label_classification", ["a", "b"], most=2)
    assert [(mistake.row, mistake.weight) for mistake in found.mistakes] == [(3, 0.9), (4, 0.7)]
    assert found.classes.matrix == [[1, 2], [1, 0]]


def test_mistakes_of_numbers_are_the_largest_errors():
    found = look_through(lines_of((1.0, 1.5), (0.0, 3.0), (2.0, 2.0)), "regression", [], most=1)
    assert (found.ordered_by, found.classes) == ("error", None)
    assert [(mistake.row, mistake.weight) for mistake in found.mistakes] == [(2, 3.0)]


def test_mistakes_in_sets_of_labels_say_which_label():
    chances = {"a": 0.8, "b": 0.1, "c": 0.4}
    lines = lines_of((["b"], ["a"]), (["a"], ["a"]), probabilities=chances)
    [mistake] = look_through(lines, "multi_label_classification", ["a", "b", "c"]).mistakes
    assert (mistake.row, mistake.weight, mistake.detail) == (1, 0.9, "b was missed")


def test_mistakes_in_tags_and_entities_say_where():
    tags = lines_of((["N", "V", None], ["V", "N", "N"]), scores=[0.6, 0.7, 0.99])
    [mistake] = look_through(tags, "tags", ["N", "V"]).mistakes
    assert (mistake.reference, mistake.prediction, mistake.weight, mistake.detail) == ("V", "N", 0.7, "word 2")
    groups = [{"entity_group": "PER", "score": 0.9}, {"entity_group": "ORG", "score": 0.8}]
    names = ["O", "B-PER", "I-PER", "B-ORG", "I-ORG"]
    lines = lines_of((["B-PER", "O", "B-PER"], ["B-PER", "O", "B-ORG"]), entities=groups)
    [mistake] = look_through(lines, "entities", names).mistakes
    assert (mistake.reference, mistake.prediction, mistake.weight, mistake.detail) == ("PER", "ORG", 0.8, "words 3–3")


def test_mistakes_in_answers_are_those_without_an_exact_match():
    lines = [
        line | {"score": 0.5} for line in lines_of((["The cat."], "cat"), (["a dog"], "a cat"), ([], ""), ([], "cat"))
    ]
    assert [mistake.row for mistake in look_through(lines, "squad_v2", []).mistakes] == [2, 4]


def test_an_answer_that_does_not_say_how_sure_it_is_is_no_confident_mistake():
    assert look_through(lines_of((["a"], "b")), "text", []).mistakes == ()
