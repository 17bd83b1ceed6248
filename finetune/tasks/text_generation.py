"""Text generation: plain texts, completions of prompts, or the answers in conversations (causal language modelling).

Each token is predicted from those before it, so the first one of a feature never is. What is counted is told by
`labels` (IGNORED: not counted), made of places in the text and never of token ids: where padding is done with the
end-of-text token, a real one still counts.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from finetune.errors import FinetuneError
from finetune.tasks import Column, Context, LabelScheme, Task, ratio
from finetune.tasks.text2text_generation import TEXT_METRICS, text_formulas, text_numbers

CAUSAL = "causal_lm"
IGNORED = -100
NO_TOKEN = -1
_TOKEN_NUMBERS = 3  # how many `measure` gives before those of the text
_NEW_TOKENS = 128
_INPUTS = ("input_ids", "attention_mask", "position_ids")
# Chat templates may mark what the assistant says.
_MARKS_ANSWERS = re.compile(r"\{%-?\s*generation\s*-?%\}")


def encode(rows: dict[str, list[Any]], context: Context) -> dict[str, list[Any]]:
    """Turn texts, prompts with completions, or conversations into token ids, and say which of them are counted.

    A text counts whole: what is longer than the limit goes on in further features, each of which begins with the last
    token of the one before, so that every token is predicted once. Of the others the answers count; where they are too
    long, the beginning of the prompt is left out. To predict, there is the prompt alone; `asked` is the same, where
    the model's own answer is scored too.
    """
    limit = context.max_length if context.truncation else None
    if limit is not None and limit < 2:
        raise FinetuneError("preprocessing.max_length: 1 leaves no token to predict", "Set it to 2 or more.")
    features: dict[str, list[Any]] = {"input_ids": [], "attention_mask": [], "labels": [], "source": []}
    goes_on = "text" in rows and not (context.predicting or context.single)
    for source, (ids, counted) in enumerate(_examples(rows, context)):
        pieces = _blocks(len(ids), limit) if goes_on else [_kept(ids, counted, limit, context.tokenizer)]
        for piece in pieces:
            features["input_ids"].append([ids[place] for place in piece])
            features["attention_mask"].append([1] * len(piece))
            labels = [ids[place] if counted[place] else IGNORED for place in piece]
            features["labels"].append([IGNORED, *labels[1:]])
            features["source"].append(source)
    if context.predicting:
        del features["labels"]
    elif context.writes:
        features["asked"] = encode(_prompts_of(rows), replace(context, predicting=True))["input_ids"]
    return features


def _prompts_of(rows: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
    """Return rows as they are to predict, without the answers that are scored."""
    if "messages" in rows:
        return {"messages": [messages[: _last_answer(messages)] for messages in rows["messages"]]}
    return {"prompt": rows["prompt"]}


def _examples(rows: Mapping[str, list[Any]], context: Context) -> list[tuple[list[int], list[bool]]]:
    """Return the tokens of each row and which of them are counted."""
    tokenizer = context.tokenizer
    if "messages" in rows:
        return [_conversation(messages, context) for messages in rows["messages"]]
    if "text" in rows:
        texts = tokenizer(rows["text"])["input_ids"]
        if context.predicting:
            return [(ids, [False] * len(ids)) for ids in texts]
        ended = [_ended(ids, tokenizer) for ids in texts]
        return [(ids, [True] * len(ids)) for ids in ended]
    prompts = tokenizer(rows["prompt"])["input_ids"]
    if "completion" not in rows:
        return [(ids, [False] * len(ids)) for ids in prompts]
    completions = tokenizer(rows["completion"], add_special_tokens=False)["input_ids"]
    pairs = [(ids, _ended(said, tokenizer)) for ids, said in zip(prompts, completions, strict=True)]
    return [(ids + said, [False] * len(ids) + [True] * len(said)) for ids, said in pairs]


def _ended(ids: list[int], tokenizer: Any) -> list[int]:
    """Return tokens with the end of the text after them, where the tokenizer has a token for it."""
    end = tokenizer.eos_token_id
    return ids if end is None or not ids or ids[-1] == end else [*ids, end]


def _blocks(length: int, limit: int | None) -> list[range]:
    """Return the places of the blocks of a text; the first token of a block is the last one of the block before."""
    if limit is None or length <= limit:
        return [range(length)]
    return [range(start, min(start + limit, length)) for start in range(0, length - 1, limit - 1)]


def _kept(ids: list[int], counted: list[bool], limit: int | None, tokenizer: Any) -> Sequence[int]:
    """Return the places of the tokens that fit: the last answer from its beginning, and what comes right before it.

    A token that begins the text stays at the beginning. Of a text without a prompt that is its beginning.
    """
    if limit is None or len(ids) <= limit:
        return range(len(ids))
    starts = [place for place in range(1, len(ids)) if counted[place] and not counted[place - 1]]
    end = len(ids)
    if any(counted):
        end = min(end, starts[-1] + limit - 1 if starts else limit)
    begin = max(0, end - limit)
    if begin and ids[0] == tokenizer.bos_token_id:
        return [0, *range(begin + 1, end)]
    return range(begin, end)


def _conversation(messages: list[dict[str, str]], context: Context) -> tuple[list[int], list[bool]]:
    """Return the tokens of a conversation by the checkpoint's chat template; those of the answers count."""
    tokenizer = context.tokenizer
    if not getattr(tokenizer, "chat_template", None):
        raise FinetuneError(
            "model.name_or_path: its tokenizer has no chat template, which tells how messages become one text",
            "Take a chat checkpoint, or write the conversations out as prompt and completion: "
            "dataset.columns: {prompt: …, completion: …}",
        )
    if context.predicting:
        while len(messages) > 1 and messages[-1]["role"] == "assistant":  # what is to be said
            messages = messages[:-1]
        ids = tokenizer(_rendered(messages, tokenizer, asks=True), add_special_tokens=False)["input_ids"]
        return ids, [False] * len(ids)
    if _MARKS_ANSWERS.search(str(tokenizer.chat_template)):
        marked = tokenizer.apply_chat_template(messages, return_dict=True, return_assistant_tokens_mask=True)
        return list(marked["input_ids"]), [bool(mark) for mark in marked["assistant_masks"]]
    text = _rendered(messages, tokenizer)
    answers = [
        _answer_span(text, messages, place, tokenizer)
        for place, message in enumerate(messages)
        if message["role"] == "assistant"
    ]
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    counted = [any(start <= first < end for start, end in answers) for first, _ in encoded["offset_mapping"]]
    return encoded["input_ids"], counted


def _rendered(messages: list[dict[str, str]], tokenizer: Any, asks: bool = False) -> str:
    from jinja2 import TemplateError

    try:
        return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=asks))
    except TemplateError as problem:
        roles = ", ".join(message["role"] for message in messages[:8])
        raise FinetuneError(
            f"a conversation does not fit the checkpoint's chat template ({problem}); its roles: {roles}",
            "Mend or drop such conversations.",
        ) from problem


def _answer_span(text: str, messages: list[dict[str, str]], place: int, tokenizer: Any) -> tuple[int, int]:
    """Return the characters of an answer in the whole conversation, with the mark that ends it."""
    before = _rendered(messages[:place], tokenizer, asks=True) if place else ""
    until = _rendered(messages[: place + 1], tokenizer)
    if not (text.startswith(before) and text.startswith(until)):
        raise FinetuneError(
            "model.name_or_path: the chat template of the checkpoint writes earlier answers in another way than the "
            "last one, so that they cannot be told apart from what was asked",
            "Give one answer a conversation, or save the tokenizer with a template that marks answers: "
            "{% generation %} … {% endgeneration %}",
        )
    end = tokenizer.eos_token
    closed = until.rstrip()
    return len(before), len(closed) if end and closed.endswith(end) else len(until)


def _next_labels(labels: Any) -> Any:
    """Return for each place the label of the token after it, which is what the outputs there predict."""
    from torch.nn import functional

    return functional.pad(labels[:, 1:], (0, 1), value=IGNORED)


def loss(outputs: Any, batch: Mapping[str, Any], context: Context) -> Any:
    """Return the cross-entropy summed over the counted tokens."""
    from torch.nn import functional

    if hasattr(outputs, "sums"):
        return outputs.sums["loss"].sum()
    return functional.cross_entropy(
        outputs.logits.flatten(0, 1).float(),
        _next_labels(batch["labels"]).flatten(),
        ignore_index=IGNORED,
        label_smoothing=context.label_smoothing,
        reduction="sum",
    )


def loss_weight(batch: Mapping[str, Any], context: Context) -> Any:
    """Return how many tokens are counted."""
    return (batch["labels"][:, 1:] != IGNORED).sum().float()


def ask(model: Any, batch: Mapping[str, Any], context: Context) -> Any:
    """Return the model's outputs; to predict, the texts it generates after the prompts.

    Where what it writes is scored: those texts, and where there are labels their sums by row. The logits are gone
    before generation begins.
    """
    if context.predicting:
        return _written(model, batch["input_ids"], batch["attention_mask"], context)
    if "asked" in batch and "labels" not in batch:
        return _written(model, *_prompts(batch), context)
    outputs = model(**{name: batch[name] for name in _INPUTS if name in batch})
    if "asked" not in batch:
        return outputs
    sums = token_sums(outputs.logits, _next_labels(batch["labels"]))
    del outputs
    return SimpleNamespace(sums=sums, texts=_written(model, *_prompts(batch), context))


def _prompts(batch: Mapping[str, Any]) -> tuple[Any, Any]:
    """Return the prompts of a batch and their mask; any token may stand where there is padding."""
    mask = batch["asked"] != NO_TOKEN
    return batch["asked"].clamp(min=0), mask.long()


def _written(model: Any, ids: Any, mask: Any, context: Context) -> list[str]:
    from finetune.models.generation import bare_model, generate_texts, padded_left

    ids, mask = padded_left(ids, mask)
    if context.max_length is not None:  # what comes after the prompt needs room too
        wanted = bare_model(model).generation_config.max_new_tokens or context.max_length // 2
        room = max(1, context.max_length - wanted)
        ids, mask = ids[:, -room:], mask[:, -room:]
    return generate_texts(model, {"input_ids": ids, "attention_mask": mask}, context)


def generates(context: Context) -> dict[str, Any]:
    """Return how much is written where the recipe does not say: half of what the model can take is for the prompt."""
    return {} if context.max_length is None else {"max_new_tokens": min(_NEW_TOKENS, max(1, context.max_length // 2))}


def reduce(outputs: Any, batch: Mapping[str, Any], context: Context) -> dict[str, Any]:
    """Return for each feature the counted tokens, how many were the likeliest one, and their summed loss.

    To predict, the generated text; where what is written is scored, both.
    """
    if isinstance(outputs, list):
        return {"prediction": outputs}
    if hasattr(outputs, "sums"):
        return {**outputs.sums, "prediction": outputs.texts}
    return token_sums(outputs.logits, _next_labels(batch["labels"]))


def token_sums(logits: Any, labels: Any) -> dict[str, Any]:
    """Return for each row the labels that count, how many are the likeliest token, and their summed cross-entropy."""
    import numpy
    from torch.nn import functional

    sums = numpy.zeros((3, len(labels)))
    for row, (outputs, known) in enumerate(zip(logits, labels, strict=True)):  # one by one: a batch of logits is large
        counted = known != IGNORED
        outputs, known = outputs[counted].float(), known[counted]
        sums[:, row] = (
            len(known),
            int((outputs.argmax(-1) == known).sum()),
            float(functional.cross_entropy(outputs, known, reduction="none").double().sum()),
        )
    return dict(zip(("tokens", "correct", "loss"), sums, strict=True))


def answer(features: list[dict[str, Any]], row: Mapping[str, Any], context: Context) -> dict[str, Any]:
    """Return the sums over the blocks of a text, or the one answer to a prompt."""
    if len(features) == 1:
        return features[0]
    return {name: sum(feature[name] for feature in features) for name in ("tokens", "correct", "loss")}


def measure(answer: Mapping[str, Any], row: Mapping[str, Any], context: Context) -> list[float]:
    """Return the counted tokens, how many were the likeliest one, and their summed loss; then `text_numbers`."""
    numbers = [answer["tokens"], answer["correct"], answer["loss"]]
    if not context.writes:
        return numbers
    counted = text_numbers(answer["prediction"], [reference(row)])
    return [*numbers, *(counted if reference(row) else [0.0] * len(counted))]


def token_formulas(labels: LabelScheme) -> dict[str, Any]:
    """Return the metrics of tokens as functions of the sums of `measure` (… × numbers)."""

    def perplexity(sums: Any) -> Any:
        import numpy

        with numpy.errstate(all="ignore"):  # of no token undefined, of a hopeless model infinite
            return numpy.exp(sums[..., 2] / sums[..., 0])

    return {"perplexity": perplexity, "accuracy": lambda sums: ratio(sums[..., 1], sums[..., 0])}


def formulas(labels: LabelScheme) -> dict[str, Any]:
    """Return the metrics of tokens, and of texts, as functions of the sums of `measure` (… × numbers)."""

    def of_texts(formula: Any) -> Any:
        return lambda sums: formula(sums[..., _TOKEN_NUMBERS:])

    return token_formulas(labels) | {name: of_texts(formula) for name, formula in text_formulas().items()}


def words(target: Any, labels: LabelScheme) -> Any:
    """Return the completion."""
    return target


def reference(row: Mapping[str, Any]) -> str:
    """Return what should have been written: the completion, or the last answer of a conversation ("": it has none)."""
    if "messages" not in row:
        return str(row["completion"])
    place = _last_answer(row["messages"])
    return "" if place is None else str(row["messages"][place]["content"])


def _last_answer(messages: list[dict[str, str]]) -> int | None:
    """Return the place of the answer that what the model writes is compared with: right after the last question."""
    said = [message["role"] == "assistant" for message in messages]
    return next((place for place in range(len(said) - 1, 0, -1) if said[place] and not said[place - 1]), None)


def line(answer: Mapping[str, Any], row: Mapping[str, Any], context: Context) -> dict[str, Any]:
    """Return the generated text; of a row that was scored its counted tokens and their mean loss."""
    if context.predicting:
        return {"prediction": answer["prediction"]}
    tokens = int(answer["tokens"])
    scored = {"tokens": tokens, "loss": answer["loss"] / tokens if tokens else None}
    return {"prediction": answer["prediction"], **scored, "reference": reference(row)} if context.writes else scored


TASK = Task(
    name="text-generation",
    summary="plain texts to go on from, completions of prompts, or the answers in conversations",
    columns=(Column("text", ("text", "content", "document", "story", "line")),),
    forms=(
        (
            Column("prompt", ("prompt", "instruction", "question", "input")),
            Column("completion", ("completion", "response", "answer", "output"), target=True),
        ),
        (Column("messages", ("messages", "conversation", "conversations", "chat"), kind="messages"),),
    ),
    settings=("packing",),
    problem_types=(CAUSAL,),
    metrics={CAUSAL: ("perplexity", "accuracy")},
    optional_metrics=TEXT_METRICS,
    auto_classes={"decoder-only": "AutoModelForCausalLM"},
    encode=encode,
    encodes_target=True,
    pads={"labels": IGNORED, "asked": NO_TOKEN},
    loss=loss,
    loss_weight=loss_weight,
    ask=ask,
    generates=generates,
    reduce=reduce,
    answer=answer,
    line=line,
    words=words,
    reference=reference,
    measure=measure,
    formulas=formulas,
    prompts=("{prompt}{completion}",),
    unprompted={"": "texts and conversations are scored as they stand, which is what untrained says"},
)
