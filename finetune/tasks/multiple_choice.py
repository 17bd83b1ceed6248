"""Multiple choice: which of several texts answers a question or ends a text.

Encoder-only models have a head that gives each choice a number. Decoder-only models choose by likelihood: the mean
log-probability of a choice's tokens after the question; training is the cross-entropy of choosing among those means.
A row is one feature: its choices, each encoded with context and question.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from finetune.tasks import Column, Context, LabelScheme, Task, chosen_loss, require_fast, require_room

CHOICE = "multiple_choice"
CHOICE_ROLES = tuple(f"choice_{number}" for number in range(1, 11))


def choices_of(row: Mapping[str, Any]) -> list[str]:
    """Return the choices of a row, whether they came as a list or in columns of their own."""
    return list(row["choices"]) if "choices" in row else [row[role] for role in CHOICE_ROLES if role in row]


def _prompt(row: Mapping[str, Any]) -> str:
    return f"{row['context']} {row['question']}" if row.get("context") else str(row["question"])


def encode(rows: dict[str, list[Any]], context: Context) -> dict[str, list[Any]]:
    """Turn each row into one list of tokens a choice; of what is too long the beginning of context and question is cut.

    `length` counts the tokens of all choices, each with what stands before it; `longest` those of the longest one.
    """
    require_fast(context.tokenizer)
    each = [{role: values[place] for role, values in rows.items()} for place in range(len(rows["question"]))]
    prompts = [(_prompt(row), choice) for row in each for choice in choices_of(row)]
    one = _likelihood if context.kind == "decoder-only" else _pair
    limit = context.max_length if context.truncation else None
    require_room(context, pair=context.kind != "decoder-only")
    flat = one([prompt for prompt, _ in prompts], [choice for _, choice in prompts], limit, context.tokenizer)
    features: dict[str, list[Any]] = {name: [] for name in flat}
    start = 0
    for row in each:
        end = start + len(choices_of(row))
        for name, values in flat.items():
            features[name].append(values[start:end])
        start = end
    lengths = [[len(ids) for ids in choices] for choices in features["input_ids"]]
    features["length"] = [sum(each) for each in lengths]
    features["longest"] = [max(each, default=0) for each in lengths]
    if "answer" in rows:
        features["labels"] = rows["answer"]
    return features


def _pair(prompts: list[str], choices: list[str], limit: int | None, tokenizer: Any) -> dict[str, list[Any]]:
    """Return prompt and choice as a pair."""
    if limit is not None:
        room = limit - tokenizer.num_special_tokens_to_add(pair=True)
        sizes = [len(ids) for ids in tokenizer(choices, add_special_tokens=False)["input_ids"]]
        offsets = tokenizer(prompts, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
        # The end of the prompt, which is the question, is what the choice is about.
        prompts = [
            prompt[spots[-max(1, room - size)][0] :] if len(spots) > max(1, room - size) else prompt
            for prompt, size, spots in zip(prompts, sizes, offsets, strict=True)
        ]
    cut = False if limit is None else "longest_first"
    return dict(tokenizer(prompts, choices, truncation=cut, max_length=limit))


def _likelihood(prompts: list[str], choices: list[str], limit: int | None, tokenizer: Any) -> dict[str, list[Any]]:
    """Return prompt and choice as one text, and `scored`: which of its tokens are of the choice, with its blank."""
    texts = [f"{prompt} {choice}" for prompt, choice in zip(prompts, choices, strict=True)]
    encoded = tokenizer(texts, return_offsets_mapping=True, return_special_tokens_mask=True)
    found: dict[str, list[Any]] = {"input_ids": [], "attention_mask": [], "scored": []}
    for place, prompt in enumerate(prompts):
        ids, special = encoded["input_ids"][place], encoded["special_tokens_mask"][place]
        offsets = encoded["offset_mapping"][place]
        scored = [
            int(not extra and end > len(prompt) and end > start)
            for (start, end), extra in zip(offsets, special, strict=True)
        ]
        if limit is not None and len(ids) > limit:
            first = int(bool(special[0]))  # the token that begins a text stays
            kept = [*range(first), *range(len(ids) - limit + first, len(ids))]
            ids, scored = [ids[at] for at in kept], [scored[at] for at in kept]
        found["input_ids"].append(ids)
        found["attention_mask"].append([1] * len(ids))
        found["scored"].append(scored)
    return found


def collate(features: dict[str, list[Any]], context: Context) -> dict[str, Any]:
    """Return the choices of all rows one below the other, padded on the right; `choices`: how many each row has.

    For a head they are (choices, 1, tokens), since it takes each input as the choices of a row.
    """
    import torch

    tokenizer = context.tokenizer
    fill = {"input_ids": tokenizer.pad_token_id, "token_type_ids": tokenizer.pad_token_type_id}
    batch: dict[str, Any] = {"choices": torch.tensor([len(ids) for ids in features["input_ids"]])}
    for name in ("input_ids", "attention_mask", "token_type_ids", "scored"):
        if name in features:
            values = [torch.tensor(value) for row in features[name] for value in row]
            padded = torch.nn.utils.rnn.pad_sequence(values, batch_first=True, padding_value=fill.get(name, 0))
            batch[name] = padded if context.kind == "decoder-only" else padded[:, None]
    if "labels" in features:
        batch["labels"] = torch.tensor(features["labels"])
    return batch


def _scores(outputs: Any, batch: Mapping[str, Any]) -> tuple[Any, Any]:
    """Return the number of each choice (rows × most choices) and which of them there are."""
    import torch

    if "scored" in batch:
        logits, following = outputs.logits[:, :-1].float(), batch["input_ids"][:, 1:]
        scored = batch["scored"][:, 1:]
        chances = logits.gather(2, following[..., None])[..., 0] - logits.logsumexp(2)
        flat = (chances * scored).sum(1) / scored.sum(1).clamp(min=1)
    else:
        flat = outputs.logits.float()[:, 0]
    choices = batch["choices"]
    known = torch.arange(int(choices.max()), device=choices.device) < choices[:, None]
    return torch.zeros(known.shape, device=flat.device).masked_scatter(known, flat), known


def loss(outputs: Any, batch: Mapping[str, Any], context: Context) -> Any:
    """Return the cross-entropy of choosing the right choice, summed over the rows."""
    scores, known = _scores(outputs, batch)
    return chosen_loss(scores, known, batch["labels"], context.label_smoothing)


def loss_weight(batch: Mapping[str, Any], context: Context) -> Any:
    """Return the number of rows."""
    import torch

    return torch.tensor(float(len(batch["labels"])), device=batch["labels"].device)


def reduce(outputs: Any, batch: Mapping[str, Any], context: Context) -> dict[str, Any]:
    """Return the choice of each row (counted from 0), and the probabilities of its choices."""
    import torch

    scores, known = _scores(outputs, batch)
    chances = scores.masked_fill(~known, torch.finfo(scores.dtype).min).softmax(1)
    chosen = chances.argmax(1).cpu().numpy().astype("int32")
    counts = batch["choices"].tolist()
    return {
        "prediction": chosen,
        "probabilities": [row[:count] for row, count in zip(chances.cpu().numpy(), counts, strict=True)],
    }


def line(answer: Mapping[str, Any], row: Mapping[str, Any], context: Context) -> dict[str, Any]:
    """Return the place of the chosen choice (from 0), its text, its probability, and those of all choices."""
    chosen, chances = answer["prediction"], [float(chance) for chance in answer["probabilities"]]
    return {
        "prediction": chosen,
        "choice": choices_of(row)[chosen],
        "probability": chances[chosen],
        "probabilities": chances,
    }


def words(target: Any, labels: LabelScheme) -> Any:
    """Return the place of a choice as it is."""
    return target


def majority(known: Any, rows: Any, labels: LabelScheme) -> dict[str, Any]:
    """Return the place at which the right choice stands most often in train, for every row."""
    import numpy

    return {"prediction": numpy.full(len(rows), numpy.bincount(known).argmax(), dtype=numpy.int32)}


def candidates(row: Mapping[str, Any], words: Sequence[str]) -> Sequence[str]:
    """Return the answers that a model asked in words chooses among: the row's own."""
    return choices_of(row)


_QUESTION = Column("question", ("question", "sent2", "query", "goal", "premise", "sentence", "prompt"))
_CONTEXT = Column("context", ("context", "passage", "article", "sent1", "paragraph"), required=False)
_ANSWER = Column(
    "answer", ("answer", "label", "answerkey", "answer_key", "correct", "target", "gold"), kind="choice", target=True
)


def _own_column(place: int, role: str) -> Column:
    letter = "abcdefghij"[place]
    names = (f"ending{place}", f"ending_{place}", f"option{place + 1}", f"option_{letter}", f"choice{place + 1}",
             f"sol{place + 1}", f"answer{place + 1}", f"answer{letter}")  # fmt: skip
    return Column(role, names, required=place < 2)


TASK = Task(
    name="multiple-choice",
    summary="which of several texts answers a question or goes on from it",
    columns=(
        _QUESTION,
        _CONTEXT,
        Column("choices", ("choices", "options", "endings", "answers", "candidates"), kind="choices"),
        _ANSWER,
    ),
    forms=((_QUESTION, _CONTEXT, *(_own_column(place, role) for place, role in enumerate(CHOICE_ROLES)), _ANSWER),),
    problem_types=(CHOICE,),
    metrics={CHOICE: ("accuracy",)},
    auto_classes={"encoder-only": "AutoModelForMultipleChoice", "decoder-only": "AutoModelForCausalLM"},
    encode=encode,
    encodes_target=True,
    pads={"scored": None},
    collate=collate,
    loss=loss,
    loss_weight=loss_weight,
    reduce=reduce,
    line=line,
    words=words,
    majority=majority,
    prompts=("{context} {question} {answer}", "{question} {answer}"),
    candidates=candidates,
)
