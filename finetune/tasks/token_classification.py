"""Token classification: a tag for each word (part of speech) or entities of several words (BIO tags, or spans).

Words are what the user gives as tokens, or those of the tokenizer where a text comes whole. Tokens are joined by blanks
and tokenised as a text, so that every tokenizer sees words as it did in pretraining; `starts` and `ends` hold the
characters of a word at its first sub-word, and -1 elsewhere.
"""

from bisect import bisect_right
from collections.abc import Mapping
from functools import partial
from typing import Any

from finetune.errors import FinetuneError
from finetune.tasks import Column, Context, LabelScheme, Task, ratio, require_fast, require_room

ENTITIES = "entities"
TAGS = "tags"
IGNORED = -100
NO_TAG = -1
OUTSIDE = "O"


def encode(rows: dict[str, list[Any]], context: Context) -> dict[str, list[Any]]:
    """Turn words into sub-words; the first of each word, or all of them, carry its tag."""
    require_fast(context.tokenizer)
    texts = rows["text"] if "text" in rows else [" ".join(tokens) for tokens in rows["tokens"]]
    windows = context.truncation and bool(context.settings.get("return_overflowing_tokens"))
    limit = context.max_length if context.truncation else None
    require_room(context)
    encoded = context.tokenizer(
        texts,
        truncation=context.truncation,
        max_length=limit,
        stride=min(context.doc_stride, max(0, (limit or 0) // 2)) if windows else 0,
        return_overflowing_tokens=windows,
        return_offsets_mapping=True,
    )
    columns = dict(encoded)
    offsets = columns.pop("offset_mapping")
    sources = columns.pop("overflow_to_sample_mapping", list(range(len(texts))))
    features: dict[str, list[Any]] = {**columns, "starts": [], "ends": [], "source": sources}
    for place, source in enumerate(sources):
        row = {role: values[source] for role, values in rows.items()}
        words = _words_of(row, texts[source], encoded, place, offsets[place])
        firsts = _firsts(words)
        features["starts"].append([word[0] if first else -1 for word, first in zip(words, firsts, strict=True)])
        features["ends"].append([word[1] if first else -1 for word, first in zip(words, firsts, strict=True)])
        if "tags" in row or "spans" in row:
            every = bool(context.settings.get("label_all_tokens"))
            features.setdefault("labels", []).append(_labels(row, words, firsts, context.labels, every))
    return features


_NOWHERE = (-1, -1)


def _words_of(
    row: Mapping[str, Any], text: str, encoded: Any, place: int, offsets: list[tuple[int, int]]
) -> list[tuple[int, int]]:
    """Return for each sub-word of a feature the characters of the word that it is of; (-1, -1) for special ones."""
    found = []
    starts, ends = _bounds(row["tokens"]) if "tokens" in row else ([], [])
    of_word = None if "tokens" in row else _own_words(encoded.word_ids(place), offsets, text)
    for index, (start, end) in enumerate(offsets):
        while start < end and text[start].isspace():  # some tokenizers count the blank before a word to it
            start += 1
        if start == end:
            found.append(_NOWHERE)
        elif of_word is not None:
            found.append(of_word[index])
        else:
            word = bisect_right(starts, start) - 1
            found.append((starts[word], ends[word]))
    return found


def _bounds(tokens: list[str]) -> tuple[list[int], list[int]]:
    """Return where tokens begin and end when they are joined by blanks; empty ones have no place."""
    starts, ends, at = [], [], 0
    for token in tokens:
        starts.append(at)
        ends.append(at + len(token))
        at += len(token) + 1
    return starts, ends


def _own_words(words: list[int | None], offsets: list[tuple[int, int]], text: str) -> list[tuple[int, int]]:
    """Return for each sub-word the characters of the tokenizer's word, without blanks before it."""
    bounds: dict[int, tuple[int, int]] = {}
    for word, (start, end) in zip(words, offsets, strict=True):
        if word is not None and start < end:
            first, last = bounds.get(word, (start, end))
            bounds[word] = min(first, start), max(last, end)
    for word, (start, end) in bounds.items():
        while start < end and text[start].isspace():
            start += 1
        bounds[word] = start, end
    return [_NOWHERE if word is None else bounds.get(word, _NOWHERE) for word in words]


def _firsts(words: list[tuple[int, int]]) -> list[bool]:
    """Tell which sub-words are the first of their word."""
    seen = {_NOWHERE}
    firsts = []
    for word in words:
        firsts.append(word not in seen)
        seen.add(word)
    return firsts


def _labels(
    row: Mapping[str, Any], words: list[tuple[int, int]], firsts: list[bool], labels: LabelScheme, every: bool
) -> list[int]:
    """Return the tag of each sub-word: of the first of a word, or of all, where B- goes on as I-."""
    if "tags" in row:
        starts, _ = _bounds(row["tokens"])
        of_start = dict(zip(starts, row["tags"], strict=True))
    else:
        of_start = _tags_of_spans(row["spans"], words, labels)
    found = []
    for word, first in zip(words, firsts, strict=True):
        tag = of_start.get(word[0], IGNORED) if word != _NOWHERE and (first or every) else IGNORED
        found.append(tag if first or tag == IGNORED else _inside(tag, labels))
    return found


def _inside(tag: int, labels: LabelScheme) -> int:
    name = labels.names[tag]
    return labels.names.index(f"I-{name[2:]}") if labels.problem_type == ENTITIES and name.startswith("B-") else tag


def _tags_of_spans(spans: list[list[int]], words: list[tuple[int, int]], labels: LabelScheme) -> dict[int, int]:
    """Return the tag of each word by where it begins; a span (start, end, tag of its first word) has all it touches."""
    outside = labels.names.index(OUTSIDE)
    known = sorted({word for word in words if word != _NOWHERE})
    tags = {first: outside for first, _ in known}
    for start, end, tag in spans:
        inside = [first for first, last in known if first < end and last > start]
        for place, first in enumerate(inside):
            tags[first] = _inside(tag, labels) if place else tag
    return tags


def loss(outputs: Any, batch: Mapping[str, Any], context: Context) -> Any:
    """Return the cross-entropy summed over the tagged sub-words."""
    from torch.nn import functional

    return functional.cross_entropy(
        outputs.logits.float().flatten(0, 1),
        batch["labels"].flatten(),
        weight=context.class_weights,
        ignore_index=IGNORED,
        label_smoothing=context.label_smoothing,
        reduction="sum",
    )


def loss_weight(batch: Mapping[str, Any], context: Context) -> Any:
    """Return what the summed loss is divided by: the tagged sub-words, or the sum of their class weights."""
    tagged = batch["labels"] != IGNORED
    if context.class_weights is None:
        return tagged.sum().float()
    return context.class_weights[batch["labels"][tagged]].sum()


def reduce(outputs: Any, batch: Mapping[str, Any], context: Context) -> dict[str, Any]:
    """Return for each word its tag, the tag's probability, and the characters of the word, by feature."""
    chances = outputs.logits.float().softmax(-1)
    score, tag = (values.cpu().numpy() for values in chances.max(-1))
    starts, ends = batch["starts"].cpu().numpy(), batch["ends"].cpu().numpy()
    of_word = [row >= 0 for row in starts]
    kept = {
        "prediction": tag.astype("int32"),
        "score": score,
        "start": starts.astype("int32"),
        "end": ends.astype("int32"),
    }
    return {name: [row[mask] for row, mask in zip(values, of_word, strict=True)] for name, values in kept.items()}


def answer(features: list[dict[str, Any]], row: Mapping[str, Any], context: Context) -> dict[str, Any]:
    """Return the words of a row with tag and score; of windows that overlap, the one in which a word stands deeper.

    For tokens of the user there is one entry each, NO_TAG where the model never saw it; for a text those it saw.
    """
    words: dict[int, tuple[int, int, int, float]] = {}  # by start: depth, end, tag, score
    for feature in features:
        count = len(feature["start"])
        for place in range(count):
            depth, start = min(place, count - 1 - place), int(feature["start"][place])
            if start not in words or depth > words[start][0]:
                words[start] = (
                    depth,
                    int(feature["end"][place]),
                    int(feature["prediction"][place]),
                    float(feature["score"][place]),
                )
    if "tokens" in row:
        starts, ends = _bounds(row["tokens"])
    else:
        starts = sorted(words)
        ends = [words[start][1] for start in starts]
    seen = [words.get(start, (0, 0, NO_TAG, 0.0)) for start in starts]
    return {"prediction": [word[2] for word in seen], "score": [word[3] for word in seen], "start": starts, "end": ends}


def entities_of(tags: list[int], labels: LabelScheme) -> list[tuple[int, int, str]]:
    """Return (first word, word after the last, type) of the entities in a list of tags.

    An entity begins at B-, and at I- after another type or none (the reading of conlleval and seqeval).
    """
    found: list[tuple[int, int, str]] = []
    begin, kind = 0, ""
    if labels.problem_type != ENTITIES:
        return found
    for place, tag in enumerate([*tags, NO_TAG]):
        name = labels.names[tag] if tag >= 0 else OUTSIDE
        inside = name[2:] if name != OUTSIDE else ""
        if kind and (name.startswith("B-") or inside != kind):
            found.append((begin, place, kind))
            kind = ""
        if inside and not kind:
            begin, kind = place, inside
    return found


def entity_types(labels: LabelScheme) -> list[str]:
    """Return the types of the entities, sorted."""
    return sorted({name[2:] for name in labels.names if name != OUTSIDE})


def measure(answer: Mapping[str, Any], row: Mapping[str, Any], context: Context) -> list[float]:
    """Return tagged words and how many are right; for entities then, type by type, found, predicted, true."""
    labels = context.labels
    if "spans" in row:
        true = {(start, end, labels.names[tag][2:]) for start, end, tag in row["spans"]}
        spots = zip(answer["start"], answer["end"], strict=True)
        tags = _tags_of_spans(row["spans"], list(spots), labels)
        reference = [tags[start] for start in answer["start"]]
        said = entities_of(answer["prediction"], labels)
        guess = {(answer["start"][first], answer["end"][last - 1], kind) for first, last, kind in said}
    else:
        reference = list(row["tags"])
        true, guess = (set(entities_of(tags, labels)) for tags in (reference, answer["prediction"]))
    pairs = [(tag, true_tag) for tag, true_tag in zip(answer["prediction"], reference, strict=True) if true_tag >= 0]
    numbers = [float(len(pairs)), float(sum(tag == true_tag for tag, true_tag in pairs))]
    if labels.problem_type == ENTITIES:
        for kind in entity_types(labels):
            for found in (true & guess, guess, true):
                numbers.append(float(sum(entity[2] == kind for entity in found)))
    return numbers


def formulas(labels: LabelScheme) -> dict[str, Any]:
    """Return the metrics as functions of the sums of `measure` (… × numbers)."""

    def accuracy(sums: Any) -> Any:
        import numpy

        with numpy.errstate(invalid="ignore"):  # without a tagged word it is undefined
            return sums[..., 1] / sums[..., 0]

    if labels.problem_type == TAGS:
        return {"accuracy": accuracy}

    def counts(sums: Any, kind: int | None) -> tuple[Any, Any, Any]:
        each = sums[..., 2:].reshape(*sums.shape[:-1], -1, 3)
        chosen = each.sum(axis=-2) if kind is None else each[..., kind, :]
        return chosen[..., 0], chosen[..., 1], chosen[..., 2]

    def f1(sums: Any, kind: int | None = None) -> Any:
        hits, said, true = counts(sums, kind)
        return ratio(2 * hits, said + true)

    def precision(sums: Any, kind: int | None = None) -> Any:
        hits, said, _ = counts(sums, kind)
        return ratio(hits, said)

    def recall(sums: Any, kind: int | None = None) -> Any:
        hits, _, true = counts(sums, kind)
        return ratio(hits, true)

    scores = {"f1": f1, "precision": precision, "recall": recall}
    by_type = {
        f"{name}_{kind}": partial(score, kind=place)
        for place, kind in enumerate(entity_types(labels))
        for name, score in scores.items()
    }
    return {**scores, "accuracy": accuracy, **by_type}


def words(target: Any, labels: LabelScheme) -> Any:
    """Return tags as their names (null: no tag), spans with the name of their type."""
    if target and isinstance(target[0], list):
        return [{"start": start, "end": end, "label": labels.names[tag][2:]} for start, end, tag in target]
    return [labels.names[tag] if tag >= 0 else None for tag in target]


def line(answer: Mapping[str, Any], row: Mapping[str, Any], context: Context) -> dict[str, Any]:
    """Return the tags of the user's tokens, or the words of a text with their tags; entities instead where there are.

    An entity or word has the keys of transformers' pipeline: entity_group or entity, score (of an entity the mean of
    its words'), word (the text itself), start, end: characters of the text, or of the tokens joined by blanks.
    """
    labels = context.labels
    text = row["text"] if "text" in row else " ".join(row["tokens"])
    tags = words(answer["prediction"], labels)

    def piece(first: int, last: int, **named: str) -> dict[str, Any]:
        start, end = answer["start"][first], answer["end"][last - 1]
        score = sum(answer["score"][first:last]) / (last - first)
        return {**named, "score": score, "word": text[start:end], "start": start, "end": end}

    if labels.problem_type == ENTITIES:
        found = entities_of(answer["prediction"], labels)
        entities = [piece(first, last, entity_group=kind) for first, last, kind in found]
        return {"prediction": tags, "entities": entities} if "tokens" in row else {"prediction": entities}
    if "tokens" in row:
        return {"prediction": tags, "scores": answer["score"]}
    return {"prediction": [piece(place, place + 1, entity=tag) for place, tag in enumerate(tags)]}


def balanced_weights(known: Any, labels: LabelScheme) -> list[float]:
    """Return weights inverse to how often each tag occurs: words / (tags × words with the tag)."""
    import numpy

    flat = [chunk.flatten() for chunk in known.chunks]
    if any(part.type.num_fields for part in flat):
        raise FinetuneError(
            "training.class_weights: balanced counts the tags of tokens, and the data has spans",
            "Give the weights yourself, one a label: training.class_weights: [1.0, 2.0, …]",
        )
    tags = numpy.concatenate([part.to_numpy() for part in flat])
    counts = numpy.bincount(tags[tags >= 0], minlength=labels.num_labels).tolist()
    return [sum(counts) / (labels.num_labels * max(count, 1)) for count in counts]


def majority(known: Any, rows: Any, labels: LabelScheme) -> dict[str, Any]:
    """Return the most frequent tag for every token; of a text no word has one, which is no entity."""
    import numpy

    if "tokens" not in rows.column_names:
        return {name: [numpy.zeros(0, int)] * len(rows) for name in ("prediction", "start", "end")}
    tags = numpy.concatenate([chunk.flatten().to_numpy() for chunk in known.chunks])
    constant = int(numpy.bincount(tags[tags >= 0]).argmax())
    lengths = (len(tokens) for tokens in rows.column("tokens"))
    return {"prediction": [numpy.full(length, constant) for length in lengths]}


_TOKENS = ("tokens", "words")
_TAG_NAMES = ("tags", "ner_tags", "pos_tags", "upos", "upos_tags", "chunk_tags", "labels", "ner", "pos")

TASK = Task(
    name="token-classification",
    summary="a tag for each word (part of speech), or entities of several words",
    columns=(
        Column("tokens", _TOKENS, kind="tokens"),
        Column("tags", _TAG_NAMES, kind="tags", target=True),
    ),
    forms=(
        (
            Column("text", ("text", "sentence", "content", "document")),
            Column("spans", ("spans", "entities"), kind="spans", target=True),
        ),
    ),
    settings=("return_overflowing_tokens", "doc_stride", "label_all_tokens"),
    problem_types=(ENTITIES, TAGS),
    metrics={ENTITIES: ("f1", "precision", "recall", "accuracy"), TAGS: ("accuracy",)},
    auto_classes=dict.fromkeys(("encoder-only", "decoder-only", "encoder-decoder"), "AutoModelForTokenClassification"),
    encode=encode,
    encodes_target=True,
    pads={"labels": IGNORED, "starts": -1, "ends": -1},
    loss=loss,
    loss_weight=loss_weight,
    reduce=reduce,
    answer=answer,
    line=line,
    words=words,
    measure=measure,
    formulas=formulas,
    balanced_weights=balanced_weights,
    majority=majority,
    unprompted=dict.fromkeys(
        (ENTITIES, TAGS), "a tag for each word needs a head that learns them; words cannot ask it"
    ),
)
