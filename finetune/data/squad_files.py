"""SQuAD's own file form: articles, of paragraphs, of questions; read as one row a question."""

from __future__ import annotations

from typing import Any

from finetune.errors import FinetuneError
from finetune.text import plural

_SHAPE = 'Write [{"paragraphs": [{"context": …, "qas": [{"id": …, "question": …, "answers": […]}]}]}] under "data".'


def is_nested(rows: list[Any]) -> bool:
    """Tell whether the rows of a json file are SQuAD's articles."""
    return any("paragraphs" in row for row in rows)


def questions_of(where: str, articles: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a row for every question: id, title, context, question, answers (null where the file has none).

    Raises FinetuneError for an article, paragraph or question that is not as SQuAD has it.
    """
    rows = []
    for article, content in enumerate(articles, 1):
        place = f"{where}: article {article}"
        for number, paragraph in enumerate(_list(content, "paragraphs", place), 1):
            spot = f"{place}, paragraph {number}"
            context = _text(paragraph, "context", spot)
            for entry, question in enumerate(_list(paragraph, "qas", spot), 1):
                at = f"{spot}, question {entry}"
                rows.append(
                    {
                        "id": str(question.get("id", "")),
                        "title": content.get("title"),
                        "context": context,
                        "question": _text(question, "question", at),
                        "answers": _answers(question, at),
                    }
                )
    return rows


def _answers(question: dict[str, Any], place: str) -> dict[str, list[Any]] | None:
    if "answers" not in question:
        return None
    answers = _list(question, "answers", place)
    impossible = question.get("is_impossible")
    if impossible and answers:
        raise FinetuneError(
            f"{place}: is_impossible is true, but it has {plural(len(answers), 'answer')}",
            "Set is_impossible to false, or leave answers empty: what only seems right belongs in plausible_answers.",
        )
    if impossible is False and not answers:
        return None  # there is one, which the file does not tell
    for answer in answers:
        if not isinstance(answer.get("text"), str) or not isinstance(answer.get("answer_start"), int):
            raise FinetuneError(f"{place}: an answer has no text or no answer_start", _SHAPE)
    return {name: [answer[name] for answer in answers] for name in ("text", "answer_start")}


def _list(content: dict[str, Any], key: str, place: str) -> list[dict[str, Any]]:
    found = content.get(key)
    if not isinstance(found, list) or not all(isinstance(entry, dict) for entry in found):
        raise FinetuneError(f"{place}: {key} is no list of objects", _SHAPE)
    return found


def _text(content: dict[str, Any], key: str, place: str) -> str:
    found = content.get(key)
    if not isinstance(found, str):
        raise FinetuneError(f"{place}: {key} is no text", _SHAPE)
    return found
