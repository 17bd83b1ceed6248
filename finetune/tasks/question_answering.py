"""Question answering: the span of a context that answers a question, or that there is none (SQuAD 1.1 and 2.0).

Long contexts are cut into windows that overlap. `starts` and `ends` hold the characters of the context at each of its
tokens, NOWHERE at all others but one: the slot, which stands for "no answer here". It is the classification token
where there is one, else the last token of all.
"""

import re
import string
from collections import Counter
from collections.abc import Mapping
from typing import Any

from finetune.tasks import Column, Context, LabelScheme, Task, chosen_loss, ratio, require_fast, require_room

SQUAD = "squad"
SQUAD_V2 = "squad_v2"  # some questions have no answer
NOWHERE = -1
SLOT = -2
NO_ANSWER = "unanswerable"
_START, _END = 1, 2  # what `labels` says of a token; both added up where the answer is one token


def encode(rows: dict[str, list[Any]], context: Context) -> dict[str, list[Any]]:
    """Turn questions with their contexts into windows; the first reference, where a window holds all of it, is marked.

    A question may fill half a window; what is longer is cut.
    """
    tokenizer = context.tokenizer
    require_fast(tokenizer)
    added = _added_slot(tokenizer)
    limit = context.max_length - len(added) if context.truncation and context.max_length else None
    questions, strides = rows["question"], [0] * len(rows["question"])
    if limit is not None:
        require_room(context, pair=True, added=len(added))
        questions, strides = _fitting(questions, limit, context)
    shortened = [int(kept != whole) for kept, whole in zip(questions, rows["question"], strict=True)]
    features: dict[str, list[Any]] = {"starts": [], "ends": [], "source": [], "cut": []}
    for stride in sorted(set(strides)):
        places = [place for place, own in enumerate(strides) if own == stride]
        encoded = tokenizer(
            [questions[place] for place in places],
            [rows["context"][place] for place in places],
            truncation=False if limit is None else "only_second",
            max_length=limit,
            stride=stride,
            return_overflowing_tokens=limit is not None,
            return_offsets_mapping=True,
        )
        columns = dict(encoded)
        offsets = columns.pop("offset_mapping")
        sources = columns.pop("overflow_to_sample_mapping", range(len(places)))
        for name, values in columns.items():
            tail = {"input_ids": added, "attention_mask": [1] * len(added)}.get(name, values[0][-1:] * len(added))
            features.setdefault(name, []).extend([*value, *tail] for value in values)
        for feature, source in enumerate(sources):
            row = {role: values[places[source]] for role, values in rows.items()}
            ids = [*columns["input_ids"][feature], *added]
            starts, ends = _bounds(row["context"], encoded.sequence_ids(feature), offsets[feature], len(added))
            slot = ids.index(tokenizer.cls_token_id) if tokenizer.cls_token_id in ids else len(ids) - 1
            starts[slot] = ends[slot] = SLOT
            features["starts"].append(starts)
            features["ends"].append(ends)
            features["source"].append(places[source])
            features["cut"].append(shortened[places[source]])
            if "answers" in row:
                features.setdefault("labels", []).append(_labels(starts, ends, slot, row["answers"]))
    return features


def _added_slot(tokenizer: Any) -> list[int]:
    """Return the token to add for the slot, if a pair neither has a classification token nor ends in a special one."""
    pair = tokenizer("a", "b")
    if tokenizer.cls_token_id in pair["input_ids"] or pair.sequence_ids(0)[-1] is None:
        return []
    return [tokenizer.pad_token_id if tokenizer.eos_token_id is None else tokenizer.eos_token_id]


def _fitting(questions: list[str], limit: int, context: Context) -> tuple[list[str], list[int]]:
    """Return the questions, none longer than half a window, and the overlap of each one's windows.

    That is doc_stride, or half of the room that the question leaves where this is less.
    """
    encoded = context.tokenizer(questions, add_special_tokens=False, return_offsets_mapping=True)
    special = context.tokenizer.num_special_tokens_to_add(pair=True)
    cut, strides = [], []
    for question, offsets in zip(questions, encoded["offset_mapping"], strict=True):
        most = max(1, min(limit // 2, limit - special - 1))
        cut.append(question[: offsets[most - 1][1]] if len(offsets) > most else question)
        room = limit - special - min(len(offsets), most)
        strides.append(max(0, min(context.doc_stride, room // 2)))
    return cut, strides


def _bounds(
    text: str, sequences: list[int | None], offsets: list[tuple[int, int]], added: int
) -> tuple[list[int], list[int]]:
    """Return where each token begins and ends in the context, without blanks before it."""
    starts, ends = [], []
    for sequence, (start, end) in zip(sequences, offsets, strict=True):
        while sequence == 1 and start < end and text[start].isspace():  # some tokenizers count it to the next word
            start += 1
        inside = sequence == 1 and start < end
        starts.append(start if inside else NOWHERE)
        ends.append(end if inside else NOWHERE)
    return starts + [NOWHERE] * added, ends + [NOWHERE] * added


def _labels(starts: list[int], ends: list[int], slot: int, answers: Mapping[str, list[Any]]) -> list[int]:
    """Mark the tokens with which the first reference begins and ends, or the slot if the window lacks a part of it."""
    first, last = slot, slot
    found = [place for place, start in enumerate(answers["answer_start"]) if start >= 0]
    if found:
        begin = answers["answer_start"][found[0]]
        end = begin + len(answers["text"][found[0]])
        touched = [place for place, start in enumerate(starts) if 0 <= start < end and ends[place] > begin]
        if touched and starts[touched[0]] <= begin and ends[touched[-1]] >= end:
            first, last = touched[0], touched[-1]
    labels = [0] * len(starts)
    labels[first] += _START
    labels[last] += _END
    return labels


def loss(outputs: Any, batch: Mapping[str, Any], context: Context) -> Any:
    """Return the mean of the cross-entropies of first and last token, summed over the windows.

    Only tokens of the context, and the slot, can be chosen, so that padding and question do not count.
    """
    known = batch["starts"] != NOWHERE
    sides = ((outputs.start_logits, _START), (outputs.end_logits, _END))
    return sum(
        chosen_loss(logits.float(), known, (batch["labels"] & side).argmax(1), context.label_smoothing)
        for logits, side in sides
    ) / len(sides)


def loss_weight(batch: Mapping[str, Any], context: Context) -> Any:
    """Return the number of windows."""
    import torch

    return torch.tensor(float(len(batch["labels"])), device=batch["labels"].device)


def reduce(outputs: Any, batch: Mapping[str, Any], context: Context) -> dict[str, Any]:
    """Return the best span of each window: its characters, sum of logits and probability; the last two of the slot too.

    All spans of up to `max_answer_length` tokens are looked at, one length after the other, so that little is held.
    """
    import torch

    starts, ends = batch["starts"], batch["ends"]
    of_context, slot = starts >= 0, starts == SLOT
    begin, end = outputs.start_logits.float(), outputs.end_logits.float()
    lowest = torch.finfo(begin.dtype).min / 4
    opening, closing = (logits.masked_fill(~of_context, lowest) for logits in (begin, end))
    count = starts.shape[1]
    best = torch.full_like(opening[:, 0], 4 * lowest)
    first, last = torch.zeros_like(starts[:, 0]), torch.zeros_like(starts[:, 0])
    for width in range(min(context.settings.get("max_answer_length") or count, count)):
        score, place = (opening[:, : count - width] + closing[:, width:]).max(1)
        higher = score > best
        best = torch.where(higher, score, best)
        first, last = torch.where(higher, place, first), torch.where(higher, place + width, last)
    empty = sum(logits.masked_fill(~slot, 0).sum(1) for logits in (begin, end))
    total = sum(logits.masked_fill(starts == NOWHERE, lowest).logsumexp(1) for logits in (begin, end))
    kept = {
        "start": starts.gather(1, first[:, None])[:, 0],
        "end": ends.gather(1, last[:, None])[:, 0],
        "logit": best,
        "score": (best - total).exp(),
        "slot_logit": empty,
        "slot_score": (empty - total).exp(),
    }
    return {name: values.cpu().numpy() for name, values in kept.items()}


def answer(features: list[dict[str, Any]], row: Mapping[str, Any], context: Context) -> dict[str, Any]:
    """Return the best span over the windows of a row; with SQuAD 2.0 none where the slot beats it.

    That is where the lowest logit of the slots minus that of the span (`null_score_diff`) is above the recipe's
    null_score_diff_threshold. `score` is the probability within its window.
    """
    span = max(features, key=lambda feature: feature["logit"])
    empty = min(features, key=lambda feature: feature["slot_logit"])
    difference = empty["slot_logit"] - span["logit"]
    may_be_empty = context.labels.problem_type == SQUAD_V2
    if span["start"] < 0 or (may_be_empty and difference > context.settings.get("null_score_diff_threshold", 0.0)):
        said = {"prediction": "", "start": None, "end": None, "score": empty["slot_score"]}
    else:
        start, end = span["start"], span["end"]
        said = {"prediction": row["context"][start:end], "start": start, "end": end, "score": span["score"]}
    return said | {"null_score_diff": difference} if may_be_empty else said


def line(answer: Mapping[str, Any], row: Mapping[str, Any], context: Context) -> dict[str, Any]:
    """Return the answer's text ("": there is none), its characters in the context, and its score."""
    return dict(answer)


def words(target: Any, labels: LabelScheme) -> Any:
    """Return the texts of the references, an answer as it is."""
    return target["text"] if isinstance(target, Mapping) else target


_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalised(text: str) -> str:
    """Return a text as the official script compares it: lower case, without punctuation, articles and extra blanks."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def compare(said: str, references: list[str]) -> tuple[float, float]:
    """Return F1 and exact match with the reference that fits best, as evaluate-v2.0.py of SQuAD counts them."""
    known = [text for text in map(normalised, references) if text] or [""]
    own = normalised(said)
    return max(_f1(own.split(), text.split()) for text in known), float(own in known)


def _f1(said: list[str], reference: list[str]) -> float:
    if not said or not reference:
        return float(said == reference)
    common = sum((Counter(said) & Counter(reference)).values())
    return 2 * common / (len(said) + len(reference))


def to_text(target: Mapping[str, Any]) -> str:
    """Return the answer that a model is shown: the first reference, or that there is none."""
    return next(iter(target["text"]), NO_ANSWER)


def from_text(text: str) -> str:
    """Return the answer in a text that a model has written: its first line, nothing where that says so."""
    line = text.strip().partition("\n")[0].strip()
    return "" if normalised(line) == NO_ANSWER else line


def measure(answer: Mapping[str, Any], row: Mapping[str, Any], context: Context) -> list[float]:
    """Return how many questions, F1 and exact match: of the question if it has an answer, then if it has none."""
    references = row["answers"]["text"]
    numbers = [1.0, *compare(answer["prediction"], references)]
    return [*numbers, 0.0, 0.0, 0.0] if references else [0.0, 0.0, 0.0, *numbers]


def formulas(labels: LabelScheme) -> dict[str, Any]:
    """Return the metrics, between 0 and 1, as functions of the sums of `measure` (… × numbers)."""

    def mean(place: int, *parts: int) -> Any:
        def score(sums: Any) -> Any:
            return ratio(sum(sums[..., 3 * part + place] for part in parts), sum(sums[..., 3 * part] for part in parts))

        return score

    overall = {"f1": mean(1, 0, 1), "exact_match": mean(2, 0, 1)}
    if labels.problem_type == SQUAD:
        return overall
    return overall | {
        "f1_answerable": mean(1, 0), "exact_match_answerable": mean(2, 0), "accuracy_unanswerable": mean(2, 1),
    }  # fmt: skip


def unit(row: Mapping[str, Any]) -> Any:
    """Return what questions on one context have in common."""
    return hash(row["context"])


def majority(known: Any, rows: Any, labels: LabelScheme) -> dict[str, Any]:
    """Return the most frequent answer of train for every question: with many unanswerable ones, none."""
    counts: Counter[str] = Counter()
    for chunk in known.chunks:
        counts.update(next(iter(answers["text"]), "") for answers in chunk.to_pylist())
    return {"prediction": [counts.most_common(1)[0][0]] * len(rows)}


TASK = Task(
    name="question-answering",
    summary="the words of a text that answer a question, or that there are none",
    columns=(
        Column("question", ("question", "query")),
        Column("context", ("context", "passage", "paragraph", "document", "text")),
        Column("answers", ("answers", "answer"), kind="answers", target=True),
    ),
    settings=("doc_stride", "max_answer_length", "null_score_diff_threshold"),
    problem_types=(SQUAD, SQUAD_V2),
    metrics={
        SQUAD: ("f1", "exact_match"),
        SQUAD_V2: ("f1", "exact_match", "f1_answerable", "exact_match_answerable", "accuracy_unanswerable"),
    },
    auto_classes=dict.fromkeys(("encoder-only", "decoder-only", "encoder-decoder"), "AutoModelForQuestionAnswering"),
    encode=encode,
    encodes_target=True,
    pads={"labels": 0, "starts": NOWHERE, "ends": NOWHERE},
    loss=loss,
    loss_weight=loss_weight,
    reduce=reduce,
    answer=answer,
    line=line,
    words=words,
    measure=measure,
    formulas=formulas,
    unit=unit,
    majority=majority,
    prompts=("{context}\n\nQuestion: {question}\nAnswer: {answers}",),
    to_text=to_text,
    from_text=from_text,
)
