"""What kind of transformer a checkpoint is, from its configuration alone (no torch, no transformers)."""

from collections.abc import Mapping
from typing import Any

ENCODER_ONLY = "encoder-only"
DECODER_ONLY = "decoder-only"
ENCODER_DECODER = "encoder-decoder"

# Families whose checkpoints do not always name a causal head (a base model is saved as GPT2Model, OPTModel …).
_DECODER_TYPES = frozenset(
    [
        "openai-gpt",
        "gpt2",
        "gpt_neo",
        "gpt_neox",
        "gptj",
        "gpt_bigcode",
        "opt",
        "bloom",
        "llama",
        "mistral",
        "mixtral",
        "qwen2",
        "qwen3",
        "gemma",
        "gemma2",
        "gemma3",
        "gemma3_text",
        "phi",
        "phi3",
        "falcon",
        "mpt",
        "stablelm",
        "olmo",
        "olmo2",
        "smollm3",
        "granite",
        "cohere",
        "starcoder2",
        "mamba",
        "codegen",
        "ctrl",
        "xglm",
    ]
)


def transformer_kind(config: Mapping[str, Any]) -> str:
    """Return encoder-only, decoder-only or encoder-decoder for the contents of a config.json."""
    if config.get("is_encoder_decoder"):
        return ENCODER_DECODER
    heads = config.get("architectures") or []
    if config.get("model_type") in _DECODER_TYPES or config.get("is_decoder"):
        return DECODER_ONLY
    if any(head.endswith(("ForCausalLM", "LMHeadModel")) for head in heads):
        return DECODER_ONLY
    return ENCODER_ONLY


def max_positions(config: Mapping[str, Any]) -> int | None:
    """Return how many tokens the checkpoint can take, or None where it has no limit (relative positions).

    RoBERTa's family counts positions from the padding id on, so two of its table's rows are never used.
    """
    if config.get("model_type") in {"t5", "mt5", "umt5", "longt5"}:
        return None
    names = ("max_position_embeddings", "n_positions", "n_ctx", "max_sequence_length", "max_seq_len")
    found = next((config[name] for name in names if config.get(name)), None)
    if found and config.get("model_type") in {"roberta", "xlm-roberta", "camembert", "mpnet", "longformer", "xmod"}:
        return int(found) - 2
    return int(found) if found else None
