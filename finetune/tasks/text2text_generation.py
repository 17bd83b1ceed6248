"""Text to text: summaries, translations, or any other text for a text, by an encoder-decoder model.

In training and for the loss the decoder reads the reference itself, moved on by one place (teacher forcing); all other
scores are of texts that it generates. A row may have several references: the first is learned from, all are scored by.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from types import SimpleNamespace
from typing import Any

from finetune.errors import FinetuneError
from finetune.tasks import Column, Context, LabelScheme, Task, ratio, require_room

TEXT = "text"
IGNORED = -100
_ROUGE = ("rouge1", "rouge2", "rougeL", "rougeLsum")
# Where the numbers of `text_numbers` stand, and after them those of `measure`.
_ROWS, _EXACT = range(2)
_ROUGES = slice(2, 6)
_LENGTHS, _MATCHES, _TOTALS = slice(6, 8), slice(8, 12), slice(12, 16)
_CHRF = slice(16, 34)
_NLL, _TOKENS = 34, 35


def encode(rows: dict[str, list[Any]], context: Context) -> dict[str, list[Any]]:
    """Turn sources into token ids, and the first reference of each into labels and what the decoder reads.

    `length` is that of the longer of the two, as both have the same limit.
    """
    tokenizer, settings = context.tokenizer, context.settings
    _speak(tokenizer, settings)
    prefix = settings.get("source_prefix") or ""
    limit = context.max_length if context.truncation else None
    require_room(context, before=prefix)
    cut = {"truncation": context.truncation, "max_length": limit}
    encoded = tokenizer([prefix + text for text in rows["source"]], **cut)
    features = {name: encoded[name] for name in ("input_ids", "attention_mask")}
    if "target" not in rows:
        return features
    longest = settings.get("max_target_length")
    if longest is not None:
        cut = {"truncation": True, "max_length": min(longest, limit or longest)}
    targets = [references(row)[0] for row in rows["target"]]
    labels = tokenizer(text_target=targets, **cut)["input_ids"]
    lengths = [max(len(ids), len(target)) for ids, target in zip(features["input_ids"], labels, strict=True)]
    read = [[_start(target, context.config), *target[:-1]] for target in labels]
    features |= {"labels": labels, "decoder_input_ids": read, "length": lengths}
    if longest is not None:
        whole = tokenizer(text_target=targets)["input_ids"]
        features["cut"] = [int(len(ids) < len(all_ids)) for ids, all_ids in zip(labels, whole, strict=True)]
    return features


def references(target: list[str]) -> list[str]:
    """Return the references of a row that say something."""
    return [text for text in target if text.strip()]


def _start(labels: list[int], config: Any) -> int:
    """Return what the decoder reads first; of mBART it is the last label, its language."""
    if config.model_type == "mbart":
        return labels[-1]
    start: int | None = getattr(config, "decoder_start_token_id", None)
    if start is None:
        raise FinetuneError(
            "model.name_or_path: its config.json has no decoder_start_token_id, from which the decoder starts",
            "Add it there, or take another checkpoint.",
        )
    return start


def _speak(tokenizer: Any, settings: Mapping[str, Any]) -> None:
    """Tell a multilingual tokenizer its languages."""
    for key, name in (("source_lang", "src_lang"), ("target_lang", "tgt_lang")):
        language = settings.get(key)
        if language is None or getattr(tokenizer, name, None) == language:
            continue
        if not hasattr(tokenizer, name):
            raise FinetuneError(
                f"preprocessing.{key}: the tokenizer of this checkpoint knows no languages",
                "Leave it out; T5 is told by preprocessing.source_prefix.",
            )
        if _language_id(tokenizer, language) is None:
            raise FinetuneError(
                f"preprocessing.{key}: the tokenizer has no language {language!r}",
                "Take the code from the checkpoint's card, for example en_XX (mBART), eng_Latn (NLLB), en (M2M100).",
            )
        setattr(tokenizer, name, language)


def _language_id(tokenizer: Any, language: str) -> int | None:
    if hasattr(tokenizer, "get_lang_id"):
        try:
            return int(tokenizer.get_lang_id(language))
        except KeyError:
            return None
    found = tokenizer.convert_tokens_to_ids(language)
    return None if found in (None, tokenizer.unk_token_id) else int(found)


def generates(context: Context) -> dict[str, Any]:
    """Return how generation begins with the target language: as the labels do, or as the decoder of mBART starts."""
    language = context.settings.get("target_lang")
    if language is None:
        return {}
    _speak(context.tokenizer, context.settings)
    code, labels = _language_id(context.tokenizer, language), context.tokenizer(text_target="a")["input_ids"]
    return {"forced_bos_token_id" if labels[0] == code else "decoder_start_token_id": code}


def ask(model: Any, batch: Mapping[str, Any], context: Context) -> Any:
    """Return the texts that the model generates, and where there are labels their loss, summed by row.

    The logits of the labels are gone before generation begins.
    """
    from finetune.models.generation import generate_texts

    inputs = {name: batch[name] for name in ("input_ids", "attention_mask", "decoder_input_ids") if name in batch}
    nll = _losses(model(**inputs).logits, batch["labels"]).sum(1) if "labels" in batch else None
    return SimpleNamespace(nll=nll, texts=generate_texts(model, batch, context))


def _losses(logits: Any, labels: Any, smoothing: float = 0.0) -> Any:
    """Return the cross-entropy of each label (rows × tokens), 0 where there is padding."""
    from torch.nn import functional

    return functional.cross_entropy(
        logits.float().transpose(1, 2), labels, ignore_index=IGNORED, label_smoothing=smoothing, reduction="none"
    )


def loss(outputs: Any, batch: Mapping[str, Any], context: Context) -> Any:
    """Return the cross-entropy summed over the tokens of the references."""
    nll = getattr(outputs, "nll", None)
    return _losses(outputs.logits, batch["labels"], context.label_smoothing).sum() if nll is None else nll.sum()


def loss_weight(batch: Mapping[str, Any], context: Context) -> Any:
    """Return the tokens of the references."""
    return (batch["labels"] != IGNORED).sum().float()


def reduce(outputs: Any, batch: Mapping[str, Any], context: Context) -> dict[str, Any]:
    """Return the generated text of each row, and the summed loss and number of its reference's tokens."""
    kept: dict[str, Any] = {"prediction": outputs.texts}
    if outputs.nll is not None:
        tokens = (batch["labels"] != IGNORED).sum(1)
        kept |= {"nll": outputs.nll.cpu().numpy().astype("float64"), "tokens": tokens.cpu().numpy()}
    return kept


def line(answer: Mapping[str, Any], row: Mapping[str, Any], context: Context) -> dict[str, Any]:
    """Return the generated text."""
    return {"prediction": answer["prediction"]}


def words(target: Any, labels: LabelScheme) -> Any:
    """Return the references of a row; a generated text as it is."""
    return target if isinstance(target, str) else references(target)


@cache
def _scorers() -> tuple[Any, Any, Any]:
    """Return the reference implementations: rouge-score without stemming, sacreBLEU's BLEU and chrF."""
    from rouge_score.rouge_scorer import RougeScorer
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF

    return RougeScorer(list(_ROUGE)), BLEU(effective_order=True), CHRF()


def text_numbers(text: str, true: list[str]) -> list[float]:
    """Return 1, whether a text is one of its references, and what ROUGE, BLEU and chrF are made of."""
    rouge, bleu, chrf = _scorers()
    overlaps = rouge.score_multi(true, text)
    counts = bleu.sentence_score(text, true)
    # The same numbers that corpus_score adds up; sentence_score of chrF does not give them.
    [characters] = chrf._extract_corpus_statistics([text], [[reference] for reference in true])
    exact = text.strip() in {reference.strip() for reference in true}
    return [
        1.0, float(exact), *(overlaps[name].fmeasure for name in _ROUGE), counts.sys_len, counts.ref_len,
        *counts.counts, *counts.totals, *characters,
    ]  # fmt: skip


def measure(answer: Mapping[str, Any], row: Mapping[str, Any], context: Context) -> list[float]:
    """Return what `text_numbers` counts, then the summed loss and the tokens of the reference."""
    return [*text_numbers(answer["prediction"], references(row["target"])), answer["nll"], answer["tokens"]]


def text_formulas() -> dict[str, Any]:
    """Return the metrics of texts beside references as functions of the sums of `text_numbers` (… × numbers).

    ROUGE is the mean F1 of the rows (0 to 1), BLEU and chrF are those of the corpus (0 to 100).
    """
    means = {name: _ROUGES.start + place for place, name in enumerate(_ROUGE)} | {"exact_match": _EXACT}

    def mean(place: int) -> Any:
        return lambda sums: ratio(sums[..., place], sums[..., _ROWS])

    return {name: mean(place) for name, place in means.items()} | {"bleu": corpus_bleu, "chrf": corpus_chrf}


def formulas(labels: LabelScheme) -> dict[str, Any]:
    """Return the metrics as functions of the sums of `measure` (… × numbers)."""
    return {**text_formulas(), "perplexity": perplexity}


def perplexity(sums: Any) -> Any:
    """Return the exponential of the mean loss of a token."""
    import numpy

    with numpy.errstate(over="ignore"):
        return numpy.exp(ratio(sums[..., _NLL], sums[..., _TOKENS]))


def corpus_bleu(sums: Any) -> Any:
    """Return BLEU of up to four words as sacreBLEU has it (tokens 13a, exponential smoothing); 0 to 100.

    K. Papineni et al., ACL 2002; M. Post, A Call for Clarity in Reporting BLEU Scores, WMT 2018.
    """
    import numpy

    matches, totals = sums[..., _MATCHES], sums[..., _TOTALS]
    length, reference = (sums[..., place] for place in range(_LENGTHS.start, _LENGTHS.stop))
    halvings = numpy.cumsum(matches == 0, axis=-1)  # each order without a match counts half of the one before
    precisions = ratio(numpy.where(matches > 0, matches, 0.5**halvings), totals)
    with numpy.errstate(divide="ignore"):
        score = numpy.exp(numpy.log(precisions).mean(axis=-1))
    brevity = numpy.exp(numpy.minimum(0.0, 1 - ratio(reference, length)))
    return 100 * numpy.where(matches.any(axis=-1), brevity * score, 0.0)


def corpus_chrf(sums: Any) -> Any:
    """Return chrF2 of up to six characters as sacreBLEU has it; 0 to 100 (M. Popović, WMT 2015)."""
    counts = sums[..., _CHRF].reshape(*sums.shape[:-1], 6, 3)
    written, true, matches = (counts[..., place] for place in range(3))
    counted = (written > 0) & (true > 0)
    orders = counted.sum(axis=-1)
    precision = ratio((ratio(matches, written) * counted).sum(axis=-1), orders)
    recall = ratio((ratio(matches, true) * counted).sum(axis=-1), orders)
    return 100 * ratio(5 * precision * recall, 4 * precision + recall)


TEXT_METRICS = ("rougeL", "rouge1", "rouge2", "rougeLsum", "bleu", "chrf", "exact_match")
_METRICS = (*TEXT_METRICS, "perplexity")


def _columns(sources: tuple[str, ...], targets: tuple[str, ...]) -> tuple[Column, ...]:
    return (
        Column("source", sources),
        Column("target", targets, several=True, kind="references", target=True),
    )


TASK = Task(
    name="text2text-generation",
    summary="a text for a text, by an encoder-decoder model",
    columns=_columns(
        ("source", "input", "input_text", "text", "document", "mr"),
        ("target", "output", "target_text", "summary", "ref"),
    ),
    problem_types=(TEXT,),
    metrics={TEXT: _METRICS},
    auto_classes={"encoder-decoder": "AutoModelForSeq2SeqLM"},
    settings=("source_prefix", "source_lang", "target_lang", "max_target_length"),
    encode=encode,
    encodes_target=True,
    pads={"labels": IGNORED, "decoder_input_ids": 0},
    loss=loss,
    loss_weight=loss_weight,
    ask=ask,
    generates=generates,
    reduce=reduce,
    line=line,
    words=words,
    measure=measure,
    formulas=formulas,
    prompts=("{source}\n{target}",),
)
SUMMARIZATION = replace(
    TASK,
    name="summarization",
    summary="a summary of a text, by an encoder-decoder model",
    columns=_columns(
        ("source", "text", "document", "article", "dialogue", "body"), ("target", "summary", "highlights", "tldr")
    ),
)
TRANSLATION = replace(
    TASK,
    name="translation",
    summary="a text in another language, by an encoder-decoder model",
    columns=_columns(("source", "source_text", "src", "text", "sentence"), ("target", "target_text", "tgt")),
    metrics={TEXT: ("bleu", "chrf", *(name for name in _METRICS if name not in ("bleu", "chrf")))},
)
TASKS = (TASK, SUMMARIZATION, TRANSLATION)
