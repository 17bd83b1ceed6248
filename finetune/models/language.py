"""A checkpoint as the language model it was trained as, or why it is none: no likelihood comes from a random head."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from finetune.errors import FinetuneError
from finetune.models.architecture import DECODER_ONLY, ENCODER_DECODER, ENCODER_ONLY
from finetune.models.heads import has_head
from finetune.text import first_line

if TYPE_CHECKING:
    from finetune.models.build import Checkpoint
    from finetune.recipe.schema import Model as ModelSettings

LANGUAGE_HEADS = {
    ENCODER_ONLY: ("AutoModelForMaskedLM", "masked words"),
    DECODER_ONLY: ("AutoModelForCausalLM", "next words"),
    ENCODER_DECODER: ("AutoModelForSeq2SeqLM", "texts for texts"),
}
# The tasks of transformers' classes whose head tells words; every other one that begins with For does not.
_TELL_WORDS = ("MaskedLM", "CausalLM", "ConditionalGeneration", "PreTraining")


def why_no_language_head(config: Any) -> str | None:
    """Return why a checkpoint of this configuration was not trained to tell words; None: nothing says so.

    Of a model with tied embeddings no weight is missing, whatever it was trained for, so its `architectures` decide. A
    class without a head (BartModel, as facebook/bart-base has it) is no reason: the weights then tell.
    """
    for name in config.architectures or ():
        _, head, task = name.rpartition("For")
        if head and task not in _TELL_WORDS:
            return f"the weights were trained under another head ({name}), not to tell words"
    return None


def load_language_model(checkpoint: Checkpoint, settings: ModelSettings, hint: str) -> tuple[Any, str | None]:
    """Return (model, None), in float32 on the CPU and ready to be asked, or (None, why its likelihoods are noise).

    A head counts as trained when every weight of it is in the checkpoint, or tied to one that is, and no other head was
    trained on top. Raises FinetuneError, with `hint`, when the weights cannot be read.
    """
    import torch
    import transformers

    name, words = LANGUAGE_HEADS[checkpoint.kind]
    if not has_head(name, checkpoint.model_type):
        return None, f"a {checkpoint.model_type} model has no head for {words} in transformers"
    if (reason := why_no_language_head(checkpoint.config)) is not None:
        return None, reason
    options: dict[str, Any] = {"trust_remote_code": settings.trust_remote_code}
    if settings.attn_implementation:
        options["attn_implementation"] = settings.attn_implementation
    try:
        model, report = getattr(transformers, name).from_pretrained(
            checkpoint.source,
            revision=checkpoint.revision or "main",
            dtype=torch.float32,
            use_safetensors=True,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
            **options,
        )
    except (OSError, ValueError, ImportError, RuntimeError) as error:
        reason = first_line(error)
        raise FinetuneError(
            f"model.name_or_path: {checkpoint.reference} could not be loaded as a language model: {reason}",
            hint,
        ) from error
    missing = sorted({*report["missing_keys"], *(key for key, *_ in report["mismatched_keys"])})
    if missing:
        some = ", ".join(missing[:3]) + (f" and {len(missing) - 3} more" if len(missing) > 3 else "")
        return None, f"the checkpoint has no trained head for {words} (its weights lack {some}): likelihoods are noise"
    if len(checkpoint.tokenizer) > model.get_input_embeddings().num_embeddings:
        _make_room(model, len(checkpoint.tokenizer))
    keep_outputs_exact(model)
    return model.eval(), None


def _make_room(model: Any, rows: int) -> None:
    """Let a model read so many tokens: those that its tokenizer was given here pad texts, and mean nothing.

    Not resize_token_embeddings(): the head keeps to the words that it was trained on, so that no random row takes a
    share of their probabilities.
    """
    import torch

    table = model.get_input_embeddings().weight
    empty = table.new_zeros(rows - table.shape[0], table.shape[1])
    whole = torch.nn.Parameter(torch.cat([table.detach(), empty]))
    for module in model.modules():
        if isinstance(module, torch.nn.Embedding) and module.weight is table:
            module.weight, module.num_embeddings = whole, rows


def keep_outputs_exact(model: Any) -> None:
    """Let a model's last layer compute in float32 under autocast too.

    Likelihoods are differences of logits: near −100, where GPT-2's lie, those of bfloat16 are half a unit apart.
    """
    import torch

    if not isinstance(model.get_output_embeddings(), torch.nn.Linear):
        return
    head = model.get_output_embeddings()

    def exact(states: Any) -> Any:
        with torch.autocast(states.device.type, enabled=False):
            return torch.nn.functional.linear(states.float(), head.weight, head.bias)

    head.forward = exact
