"""Make a checkpoint's configuration tiny, for smoke runs: the same architecture, layers and widths of a toy."""

from typing import Any

_WIDTH, _HEADS, _LAYERS, _INNER = 32, 2, 2, 64

# The names that transformers' families use for the same four sizes.
_SIZES = {
    **dict.fromkeys(("hidden_size", "d_model", "n_embd", "dim", "embedding_size", "word_embed_proj_dim"), _WIDTH),
    **dict.fromkeys(
        ("num_attention_heads", "n_head", "n_heads", "num_heads", "encoder_attention_heads", "decoder_attention_heads",
         "num_key_value_heads"), _HEADS,
    ),
    **dict.fromkeys(
        ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "encoder_layers", "decoder_layers",
         "num_decoder_layers"), _LAYERS,
    ),
    **dict.fromkeys(
        ("intermediate_size", "n_inner", "hidden_dim", "ffn_dim", "encoder_ffn_dim", "decoder_ffn_dim", "d_ff"), _INNER
    ),
    "d_kv": _WIDTH // _HEADS,
    "head_dim": _WIDTH // _HEADS,
}  # fmt: skip


def shrink_config(config: Any) -> None:
    """Set every size that the configuration names to a toy's; vocabulary, positions and the rest stay as they are."""
    for name, size in _SIZES.items():
        if isinstance(getattr(config, name, None), int):
            setattr(config, name, size)
    if config.model_type == "gpt_neo":
        config.attention_types = [[["global", "local"], 1]]
        config.attention_layers = ["global", "local"]
    if getattr(config, "layer_types", None):
        config.layer_types = config.layer_types[:_LAYERS]
