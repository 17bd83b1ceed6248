"""finetune.models.architecture: the kind of every family, from its configuration alone."""

import pytest

from finetune.models.architecture import max_positions, transformer_kind

KINDS = {
    "openai-gpt": "decoder-only", "gpt2": "decoder-only", "gpt_neo": "decoder-only", "opt": "decoder-only",
    "bert": "encoder-only", "distilbert": "encoder-only", "bart": "encoder-decoder", "t5": "encoder-decoder",
}  # fmt: skip


@pytest.mark.parametrize("family", KINDS)
def test_transformer_kind_of_each_family(family, checkpoints):
    import json

    config = json.loads((checkpoints(family) / "config.json").read_text())
    assert transformer_kind(config) == KINDS[family]


def test_transformer_kind_by_the_head_of_an_unknown_family():
    assert transformer_kind({"model_type": "new", "architectures": ["NewForCausalLM"]}) == "decoder-only"
    assert transformer_kind({"model_type": "new", "architectures": ["NewForMaskedLM"]}) == "encoder-only"
    assert transformer_kind({"model_type": "bert", "is_decoder": True}) == "decoder-only"


@pytest.mark.parametrize(
    ("config", "positions"),
    [
        ({"model_type": "bert", "max_position_embeddings": 512}, 512),
        ({"model_type": "gpt2", "n_positions": 1024}, 1024),
        ({"model_type": "roberta", "max_position_embeddings": 514}, 512),
        ({"model_type": "t5", "n_positions": 512}, None),
        ({"model_type": "new"}, None),
    ],
)
def test_max_positions(config, positions):
    assert max_positions(config) == positions
