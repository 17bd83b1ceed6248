"""finetune.inspection.anatomy and masks: what a configuration says, held against the model that it builds."""

import json

import pytest

from finetune.inspection.anatomy import Settings, context_of, kind_of, stacks_of, vocabulary_of
from finetune.inspection.families import find_family
from finetune.inspection.masks import Mask, masks_of
from tests.inspection.conftest import OTHERS
from tests.tiny import FAMILIES

KINDS = {
    "openai-gpt": "decoder-only", "gpt2": "decoder-only", "gpt_neo": "decoder-only", "opt": "decoder-only",
    "bert": "encoder-only", "distilbert": "encoder-only", "bart": "encoder-decoder", "t5": "encoder-decoder",
    "roberta": "encoder-only", "electra": "encoder-only", "qwen3": "decoder-only", "mistral": "decoder-only",
    "gemma2": "decoder-only", "longformer": "encoder-only", "modernbert": "encoder-only", "mbart": "encoder-decoder",
}  # fmt: skip
NEITHER = {
    "mamba": "no attention", "rwkv": "no attention", "fnet": "no attention", "xlnet": "permutation", "vit": "images",
}  # fmt: skip


def settings(config):
    return Settings(config, find_family(config["model_type"]))


@pytest.fixture
def read(any_checkpoint):
    def of(family):
        return settings(json.loads((any_checkpoint(family) / "config.json").read_text()))

    return of


def test_anatomy_tests_cover_every_family():
    assert {*KINDS, *NEITHER} == {*FAMILIES, *OTHERS}


@pytest.mark.parametrize("family", KINDS)
def test_kind_and_measures_are_those_of_the_configuration_that_transformers_reads(family, read, any_checkpoint):
    from transformers import AutoConfig

    found, config = read(family), AutoConfig.from_pretrained(any_checkpoint(family))
    kind, why_none = kind_of(found)
    assert (kind, why_none) == (KINDS[family], None)
    first = stacks_of(found, kind)[0]
    assert first.layers == config.num_hidden_layers
    assert first.heads == config.num_attention_heads
    assert first.width == config.hidden_size
    assert first.key_value_heads == (getattr(config, "num_key_value_heads", None) or config.num_attention_heads)
    assert vocabulary_of(found) == config.vocab_size


def test_stacks_of_an_encoder_decoder_model_differ(read):
    encoder, decoder = stacks_of(read("mbart"), "encoder-decoder")
    assert (encoder.name, encoder.layers, encoder.heads, encoder.feed_forward_width) == ("encoder", 2, 2, 64)
    assert (decoder.name, decoder.layers, decoder.heads, decoder.feed_forward_width) == ("decoder", 3, 4, 48)


@pytest.mark.parametrize("family", NEITHER)
def test_kind_is_none_with_the_reason_for_what_is_neither(family, read):
    kind, why_none = kind_of(read(family))
    assert kind is None
    assert NEITHER[family] in why_none


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"model_type": "jamba"}, "hybrid"),
        ({"model_type": "qwen3_next"}, "hybrid"),
        ({"model_type": "mamba2"}, "no attention"),
        ({"model_type": "whisper"}, "sound"),
        ({"model_type": "gemma3"}, "images beside text"),
        ({"model_type": "clip"}, "images"),
        ({"model_type": "time_series_transformer"}, "time series"),
        ({"model_type": "nobody-knows"}, "no such family"),
    ],
    ids=lambda value: value["model_type"] if isinstance(value, dict) else "",
)
def test_kind_is_none_for_defaults_of_other_families(config, words):
    kind, why_none = kind_of(settings(config))
    assert kind is None
    assert words in why_none


def test_kind_follows_is_decoder():
    assert kind_of(settings({"model_type": "bert", "is_decoder": True}))[0] == "decoder-only"


def test_settings_left_out_are_the_familys_defaults():
    found = settings({"model_type": "gpt2"})
    [stack] = stacks_of(found, "decoder-only")
    assert (stack.layers, stack.heads, stack.head_width, stack.width, stack.feed_forward_width) == (
        12, 12, 64, 768, 3072,
    )  # fmt: skip
    assert (vocabulary_of(found), context_of(found)) == (50257, 1024)


def test_context_has_no_limit_with_relative_positions():
    assert context_of(settings({"model_type": "t5", "n_positions": 512})) is None


@pytest.mark.parametrize(
    ("family", "masks"),
    [
        ("gpt2", (Mask("decoder", "decoder", "causal"),)),
        ("gpt_neo", (Mask("decoder", "decoder", "causal", None, 1), Mask("decoder", "decoder", "causal", 16, 1))),
        ("mistral", (Mask("decoder", "decoder", "causal", 8),)),
        ("qwen3", (Mask("decoder", "decoder", "causal"),)),
        ("modernbert", (
            Mask("encoder", "encoder", "bidirectional", None, 2), Mask("encoder", "encoder", "bidirectional", 4, 2),
        )),
        ("t5", (
            Mask("encoder", "encoder", "bidirectional"), Mask("decoder", "decoder", "causal"),
            Mask("decoder", "encoder", "cross"),
        )),
    ],
)  # fmt: skip
def test_masks_of_each_pattern(family, masks, read):
    found = read(family)
    kind, _ = kind_of(found)
    assert masks_of(found, kind, stacks_of(found, kind)) == masks


def test_mask_windows_count_a_token_itself_when_causal_and_each_side_when_not():
    causal, both = Mask("decoder", "decoder", "causal", 3), Mask("encoder", "encoder", "bidirectional", 2)
    assert [causal.allows(5, seen) for seen in range(8)] == [False] * 3 + [True] * 3 + [False] * 2
    assert [both.allows(4, seen) for seen in range(8)] == [False] * 2 + [True] * 5 + [False]
