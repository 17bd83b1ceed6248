"""Tiny random checkpoints of families that tests/tiny.py does not have."""

import pytest

_SMALL = {
    "vocab_size": 200, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64,
    "max_position_embeddings": 64,
}  # fmt: skip
# family: (configuration class of transformers, its values)
OTHERS = {
    "roberta": ("RobertaConfig", _SMALL),
    "electra": ("ElectraConfig", {**_SMALL, "embedding_size": 16}),
    "qwen3": ("Qwen3Config", {**_SMALL, "num_key_value_heads": 2, "head_dim": 8}),
    "mistral": ("MistralConfig", {**_SMALL, "num_key_value_heads": 2, "sliding_window": 8}),
    "gemma2": ("Gemma2Config", {**_SMALL, "num_key_value_heads": 2, "head_dim": 8, "sliding_window": 8}),
    "longformer": ("LongformerConfig", {**_SMALL, "attention_window": 8}),
    "modernbert": (
        "ModernBertConfig",
        {**_SMALL, "num_hidden_layers": 4, "local_attention": 8, "global_attn_every_n_layers": 3, "pad_token_id": 0,
         "bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 1, "sep_token_id": 2},
    ),
    "mbart": (
        "MBartConfig",
        {"vocab_size": 200, "d_model": 32, "encoder_layers": 2, "decoder_layers": 3, "encoder_attention_heads": 2,
         "decoder_attention_heads": 4, "encoder_ffn_dim": 64, "decoder_ffn_dim": 48, "max_position_embeddings": 64},
    ),
    "mamba": ("MambaConfig", {"vocab_size": 200, "hidden_size": 32, "num_hidden_layers": 2, "state_size": 4}),
    "rwkv": (
        "RwkvConfig",
        {"vocab_size": 200, "hidden_size": 32, "num_hidden_layers": 2, "context_length": 64,
         "attention_hidden_size": 32},
    ),
    "xlnet": ("XLNetConfig", {"vocab_size": 200, "d_model": 32, "n_layer": 2, "n_head": 2, "d_inner": 64}),
    "fnet": ("FNetConfig", {key: value for key, value in _SMALL.items() if key != "num_attention_heads"}),
    "vit": (
        "ViTConfig",
        {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64,
         "image_size": 32, "patch_size": 8},
    ),
}  # fmt: skip


@pytest.fixture(scope="session")
def other_checkpoints(tmp_path_factory):
    """Return a function that makes the checkpoint of such a family once, without a tokenizer."""
    import torch
    import transformers

    made = {}

    def of(family):
        if family not in made:
            torch.manual_seed(0)
            name, values = OTHERS[family]
            model = transformers.AutoModel.from_config(getattr(transformers, name)(**values))
            made[family] = tmp_path_factory.mktemp(family)
            model.save_pretrained(made[family])
        return made[family]

    return of


@pytest.fixture(scope="session")
def any_checkpoint(checkpoints, other_checkpoints):
    """Return a function that makes the checkpoint of any family of the tests."""
    return lambda family: other_checkpoints(family) if family in OTHERS else checkpoints(family)
