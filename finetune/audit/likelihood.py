"""How likely a language model finds sentences: by pseudo-log-likelihood (masked), or by log-likelihood (causal)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import TYPE_CHECKING, Any

from finetune.models.architecture import DECODER_ONLY, ENCODER_ONLY, max_positions
from finetune.models.language import load_language_model

if TYPE_CHECKING:
    from finetune.models.build import Checkpoint
    from finetune.recipe.schema import Model as ModelSettings

_KINDS = (ENCODER_ONLY, DECODER_ONLY)
LANGUAGE_TASKS = ("fill-mask", "text-generation")
_HINT = "Only safetensors weights are loaded; save_pretrained of transformers writes them."
_BATCH_ROWS = 64
_LOGITS_AT_ONCE = 1 << 26  # 256 MB


@dataclass(frozen=True)
class LanguageModel:
    """A model with its trained head for words, on `device`; is_masked: it guesses from both sides."""

    model: Any
    tokenizer: Any
    is_masked: bool
    device: Any
    check: Callable[[], None] = lambda: None  # called between batches; may raise to interrupt


def open_language_model(
    checkpoint: Checkpoint, settings: ModelSettings, device: Any, check: Callable[[], None] = lambda: None
) -> tuple[LanguageModel | None, str | None]:
    """Return a checkpoint with its head for words on a device, or the reason why its likelihoods would be noise.

    Every weight of the head must be in the checkpoint, and no other head may have been trained on top. Raises
    FinetuneError when the weights cannot be read.
    """
    reason = why_no_likelihood(checkpoint)
    if reason is not None:
        return None, reason
    model, reason = load_language_model(checkpoint, settings, _HINT)
    if model is None:
        return None, reason
    if getattr(model.config, "use_cache", False):
        model.config.use_cache = False  # keys and values would be copied for nothing
    return LanguageModel(model.to(device), checkpoint.tokenizer, checkpoint.kind == ENCODER_ONLY, device, check), None


def why_no_likelihood(checkpoint: Checkpoint) -> str | None:
    """Return why a checkpoint has no likelihoods of sentences, by its configuration alone; None: it may have."""
    if checkpoint.kind not in _KINDS:
        return f"likelihoods of a sentence are defined for masked and causal models, and this one is {checkpoint.kind}"
    if checkpoint.kind == ENCODER_ONLY and checkpoint.tokenizer.mask_token is None:
        return "the tokenizer has no mask token, so that no token can be guessed"
    return None


def why_no_head(task: str) -> str | None:
    """Return why the model of a task has no likelihoods of sentences; None: its head predicts words."""
    return None if task in LANGUAGE_TASKS else f"the model was fine-tuned for {task} and has no language-modelling head"


def pair_scores(language_model: LanguageModel, pairs: Sequence[tuple[str, str]]) -> list[tuple[float, float] | None]:
    """Return the log-likelihoods of both sentences of each pair; None for one too long for the model.

    Masked models: over the tokens that both sentences share, the log-probability of each with it alone masked (Nangia
    and others 2020). Causal models: the summed log-probability of all tokens, the first one too where the tokenizer
    has a token for the beginning of a text.
    """
    encoded = [tuple(_tokens(language_model, text) for text in pair) for pair in pairs]
    limit = max_positions(language_model.model.config.to_dict())
    fits = [limit is None or max(map(len, pair)) <= limit for pair in encoded]
    rows_of = _masked_rows if language_model.is_masked else _whole_rows
    rows = [row for at, pair in enumerate(encoded) if fits[at] for row in rows_of(language_model, at, pair)]
    sums = {(at, which): 0.0 for at in range(len(pairs)) for which in (0, 1)}
    for row, value in _row_scores(language_model, rows):
        sums[row.place] += value
    return [(sums[at, 0], sums[at, 1]) if fit else None for at, fit in enumerate(fits)]


def _tokens(language_model: LanguageModel, text: str) -> list[int]:
    tokenizer = language_model.tokenizer
    tokens: list[int] = tokenizer(text)["input_ids"]
    first = tokenizer.bos_token_id
    if not language_model.is_masked and first is not None and tokens[:1] != [first]:
        return [first, *tokens]
    return tokens


@dataclass(frozen=True)
class _Row:
    """A text as the model reads it, for a sentence of a pair: what it tells at `read_at` of the tokens `answers`."""

    place: tuple[int, int]
    tokens: list[int]
    read_at: list[int]
    answers: list[int]


def _masked_rows(language_model: LanguageModel, at: int, pair: Sequence[list[int]]) -> Iterator[_Row]:
    """Yield a row for each token that both sentences share, with it masked."""
    tokenizer = language_model.tokenizer
    marks = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
    for which, places in enumerate(shared_places(*pair)):
        tokens = pair[which]
        for place in places:
            if tokens[place] not in marks:
                masked = [*tokens[:place], tokenizer.mask_token_id, *tokens[place + 1 :]]
                yield _Row((at, which), masked, [place], [tokens[place]])


def _whole_rows(language_model: LanguageModel, at: int, pair: Sequence[list[int]]) -> Iterator[_Row]:
    """Yield a row for each sentence, of which what is read at a token tells the next one."""
    for which, tokens in enumerate(pair):
        yield _Row((at, which), tokens, list(range(len(tokens) - 1)), tokens[1:])


def shared_places(first: Sequence[int], second: Sequence[int]) -> tuple[list[int], list[int]]:
    """Return the positions of the tokens that two sentences share, in order, as the published code matches them."""
    blocks = SequenceMatcher(None, first, second, autojunk=False).get_matching_blocks()
    places = [(block.a + step, block.b + step) for block in blocks for step in range(block.size)]
    return [one for one, _ in places], [other for _, other in places]


def _row_scores(language_model: LanguageModel, rows: Sequence[_Row]) -> Iterator[tuple[_Row, float]]:
    """Yield each row and the log-probability of its answers, batches of similar length at once."""
    import torch

    device, pad = language_model.device, language_model.tokenizer.pad_token_id or 0
    ordered = sorted(rows, key=lambda row: len(row.tokens))
    longest = len(ordered[-1].tokens) if ordered else 1
    vocabulary = language_model.model.config.get_text_config().vocab_size
    at_once = max(1, min(_BATCH_ROWS, _LOGITS_AT_ONCE // (longest * vocabulary)))
    for start in range(0, len(ordered), at_once):
        language_model.check()
        batch = ordered[start : start + at_once]
        width = len(batch[-1].tokens)
        ids = torch.tensor([row.tokens + [pad] * (width - len(row.tokens)) for row in batch], device=device)
        lengths = torch.tensor([len(row.tokens) for row in batch], device=device)
        attention = (torch.arange(width, device=device) < lengths[:, None]).long()
        with torch.no_grad():
            logits = language_model.model(input_ids=ids, attention_mask=attention).logits
        for row, of_row in zip(batch, logits, strict=True):
            chances = of_row[row.read_at].float().log_softmax(-1)
            answers = torch.tensor(row.answers, device=device)
            yield row, float(chances.gather(1, answers[:, None]).double().sum())
