"""What the probes of evaluation.bias will ask of a model, in tokens of the forward path."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from finetune.audit.cases import Cases
from finetune.audit.counterfactual import Row, Swaps, texts_of
from finetune.audit.likelihood import LANGUAGE_TASKS, why_no_likelihood
from finetune.audit.pairs import Pairs
from finetune.audit.probes import TASK, OpenProbe, why_other_language
from finetune.models.architecture import ENCODER_ONLY

if TYPE_CHECKING:
    from finetune.training.prepare import Prepared

_WORD_HEADS = ("ForMaskedLM", "ForCausalLM", "ForPreTraining", "LMHeadModel")


def audit_tokens(prepared: Prepared, probes: Sequence[OpenProbe]) -> float:
    """Return the tokens that all probes read before and after training.

    A text is read once at each of the two moments, a sentence of a pair as often as it has tokens where each of them is
    masked in turn: an upper bound, as only those that both sentences share are. A checkpoint whose configuration names
    no head for words is taken to have none; likelihoods after training are those of a model of words alone.
    """
    stated = prepared.recipe.hub.language or ()
    languages = (stated,) if isinstance(stated, str) else tuple(stated)
    asked = [probe for probe in probes if why_other_language(probe.settings, languages) is None]
    return float(sum(_tokens(prepared, probe.material) for probe in asked))


def _tokens(prepared: Prepared, material: Pairs | Swaps | Cases) -> int:
    task = prepared.task.name
    if isinstance(material, Pairs):
        checkpoint = prepared.checkpoint
        if why_no_likelihood(checkpoint) is not None:
            return 0
        has_head = any(name.endswith(_WORD_HEADS) for name in checkpoint.config.architectures or ())
        moments = (has_head and prepared.recipe.model.init != "scratch") + (task in LANGUAGE_TASKS)
        sentences = [{"text": text} for pair in material.pairs for text in (pair.more, pair.less)]
        is_masked = checkpoint.kind == ENCODER_ONLY
        return moments * sum(length**2 if is_masked else length for length in _lengths(prepared, sentences))
    if task != TASK:
        return 0
    rows = list(material.rows()) if isinstance(material, Cases) else texts_of(material)
    return 2 * sum(min(length, prepared.max_length) for length in _lengths(prepared, rows))


def _lengths(prepared: Prepared, rows: Sequence[Row]) -> list[int]:
    if not rows:
        return []
    texts = [" ".join(row.values()) for row in rows]
    return [len(ids) for ids in prepared.checkpoint.tokenizer(texts)["input_ids"]]
