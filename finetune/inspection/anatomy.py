"""From a configuration to layers, heads and widths, and whether the model is one of the three kinds. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from finetune.inspection.families import Family
from finetune.models.architecture import DECODER_ONLY, ENCODER_DECODER, ENCODER_ONLY, max_positions
from finetune.text import join_words

Section = Mapping[str, Any]

TEXT_LOADERS = frozenset(
    f"AutoModelFor{head}"
    for head in (
        "CausalLM", "MaskedLM", "Seq2SeqLM", "SequenceClassification", "TokenClassification", "QuestionAnswering",
        "MultipleChoice", "NextSentencePrediction",
    )
)  # fmt: skip
# Keys of a configuration, or words in the names of Auto classes, that tell what else than text a model takes.
_OTHER_INPUTS = {
    "images": (
        ("vision_config", "image_size", "patch_size", "num_channels", "vision_tower"),
        ("Image", "Depth", "Object", "Segment", "Keypoint", "Backbone", "Video"),
    ),
    "sound": (("audio_config", "num_mel_bins", "feat_extract_norm", "sampling_rate"), ("Audio", "CTC", "Speech")),
    "time series": (("prediction_length",), ("TimeSeries",)),
}
# num_heads of Mamba-2 and xLSTM are heads of a recurrence.
_NO_ATTENTION = frozenset({"mamba", "mamba2", "falcon_mamba", "rwkv", "xlstm"})
_HYBRID_KEYS = (
    "mamba_d_state", "mamba_expand", "ssm_state_size", "block_types", "layers_block_type", "linear_num_key_heads",
    "linear_attn_config", "lru_width", "conv_L_cache", "hybrid_layer_ids",
)  # fmt: skip
_HEADS = ("num_attention_heads", "n_heads", "n_head", "num_heads")


@dataclass(frozen=True)
class Settings:
    """A configuration, read by the common names of its keys; what it leaves out has the default of its family."""

    config: Section
    family: Family

    def get(self, *names: str) -> Any:
        """Return the first of these settings that is there and not null, else None."""
        keys = [key for name in names for key in (self.family.aliases.get(name, name), name)]
        # A key of the file wins over the default of another spelling.
        for values in (self.config, self.family.defaults):
            for key in keys:
                if values.get(key) is not None:
                    return values[key]
        return None

    def has(self, *names: str) -> bool:
        """Tell whether one of these keys is in the configuration or among its family's."""
        return any(name in self.config or name in self.family.defaults for name in names)

    def number(self, *names: str) -> int | None:
        """Return the first of these settings that is a number; the first entry where each layer has its own."""
        value = self.get(*names)
        if isinstance(value, list | tuple) and value:
            value = value[0]
        return int(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


@dataclass(frozen=True)
class Stack:
    """One tower of layers; None is what the configuration does not say."""

    name: str  # encoder | decoder
    layers: int | None
    heads: int | None
    key_value_heads: int | None
    head_width: int | None
    width: int | None
    feed_forward_width: int | None


def kind_of(settings: Settings) -> tuple[str | None, str | None]:
    """Return encoder-only, decoder-only or encoder-decoder, or None and why a model is none of them."""
    family = settings.family
    if family.model_type in _NO_ATTENTION or (family.is_known and not _takes_heads(settings) and _takes_text(settings)):
        return None, "it has no attention: its layers mix positions in another way (a recurrence or a transform)"
    if settings.has(*_HYBRID_KEYS):
        return None, "it is a hybrid: some layers attend, others are recurrent (state-space or linear attention)"
    if family.model_type == "xlnet":
        return None, (
            "it is trained by permutation: a token sees those that come before it in a random order, in one stack; "
            "given a whole text, every token sees every other"
        )
    if others := _other_inputs(settings):
        beside = " beside text" if _takes_text(settings) else ", not text"
        return None, f"it takes {join_words(others, 'and')}{beside}; finetune trains on text alone"
    if family.is_known and not _takes_text(settings):
        return None, "transformers has no head for text in this family"
    if settings.get("is_encoder_decoder"):
        return ENCODER_DECODER, None
    if settings.get("is_decoder") or _writes(settings):
        return DECODER_ONLY, None
    if not family.is_known and not settings.config.get("architectures"):
        return None, "the installed transformers has no such family, so nothing is known about it"
    return ENCODER_ONLY, None


def takes_text_alone(settings: Settings) -> bool:
    """Tell whether a family's only input is tokens."""
    return _takes_text(settings) and not _other_inputs(settings)


def _takes_text(settings: Settings) -> bool:
    return not settings.family.is_known or bool(settings.family.auto_classes & TEXT_LOADERS)


def _takes_heads(settings: Settings) -> bool:
    return settings.has(*_HEADS, "encoder_attention_heads", "text_config", "vision_config", "audio_config")


def _other_inputs(settings: Settings) -> list[str]:
    loaders = settings.family.auto_classes
    is_text = bool(loaders & TEXT_LOADERS)
    return [
        name
        for name, (keys, words) in _OTHER_INPUTS.items()
        if settings.has(*keys) or (not is_text and any(word in loader for loader in loaders for word in words))
    ]


def _writes(settings: Settings) -> bool:
    """Tell whether a family without an encoder predicts the next token."""
    loaders, heads = settings.family.auto_classes, settings.config.get("architectures") or []
    if not settings.family.is_known:
        return any(head.endswith(("ForCausalLM", "LMHeadModel")) for head in heads)
    # bert-generation's own class is an encoder unless is_decoder says otherwise.
    is_encoder = "AutoModelForMaskedLM" in loaders or settings.family.model_type == "bert-generation"
    return "AutoModelForCausalLM" in loaders and not is_encoder


def stacks_of(settings: Settings, kind: str | None) -> tuple[Stack, ...]:
    """Return the towers of a model: one, or encoder and decoder."""
    if kind == ENCODER_DECODER:
        return _stack(settings, "encoder"), _stack(settings, "decoder")
    return (_stack(settings, "decoder" if kind == DECODER_ONLY else "encoder" if kind == ENCODER_ONLY else "layers"),)


def _stack(settings: Settings, name: str) -> Stack:
    own = [f"{name}_layers"] + ([f"num_{name}_layers"] if name == "decoder" else [])
    both = ["num_hidden_layers", "n_layers", "n_layer", "num_layers"]
    is_pair = settings.has("decoder_layers", "num_decoder_layers")
    layers = settings.number(*(own if is_pair else []), *both)
    heads = settings.number(*([f"{name}_attention_heads"] if is_pair else []), *_HEADS)
    width = settings.number("hidden_size", "d_model", "n_embd", "dim", "emb_dim")
    inner = settings.number(
        *([f"{name}_ffn_dim"] if is_pair else []),
        "intermediate_size", "ffn_dim", "hidden_dim", "d_ff", "d_inner", "n_inner", "dff", "ffn_hidden_size",
    )  # fmt: skip
    if inner is None and width and settings.family.model_type in _FOUR_TIMES:
        inner = 4 * width
    one_pair = settings.get("multi_query") is True and not settings.get("new_decoder_architecture")
    pairs = 1 if one_pair else settings.number("num_key_value_heads", "num_kv_heads") or heads
    own_width = settings.number("head_dim", "d_kv")
    head_width = own_width or (width // heads if width and heads else None)
    return Stack(name, layers, heads, pairs, head_width, width, inner)


# Their layers are four times as wide as the model where the configuration leaves it open.
_FOUR_TIMES = frozenset(
    {"gpt2", "openai-gpt", "gpt_neo", "gptj", "codegen", "gpt_bigcode", "bloom", "falcon", "mpt", "xlm"}
)


def vocabulary_of(settings: Settings) -> int | None:
    """Return the number of tokens that the model knows."""
    return settings.number("vocab_size", "n_words", "n_token")


def context_of(settings: Settings) -> int | None:
    """Return how many tokens the model takes, None where it has no limit (relative positions) or none is known."""
    positions = settings.number("max_position_embeddings", "max_seq_len", "max_sequence_length", "n_ctx")
    return max_positions({"model_type": settings.family.model_type, "max_position_embeddings": positions})
