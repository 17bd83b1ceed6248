"""finetune.models.generation: how text is generated, and that it is what transformers' own generate gives."""

import pytest
import torch
import transformers

from finetune.errors import FinetuneError
from finetune.evaluation.predict import in_threads
from finetune.models.generation import generate_texts, generation_config, padded_left
from finetune.recipe.generation_keys import SETTINGS
from finetune.tasks import Context, LabelScheme

TEXTS = ["what a lovely day it was", "nasty weather again", "her answer sounded rotten to everyone", "lovely"]


def parts_of(folder):
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer, transformers.AutoConfig.from_pretrained(folder)


def config_of(folder, **wanted):
    tokenizer, config = parts_of(folder)
    return generation_config(str(folder), None, config, tokenizer, wanted, {})


def writer(folder, kind, auto, **wanted):
    """Return the model with its generation settings, and the context."""
    torch.manual_seed(3)
    tokenizer, config = parts_of(folder)
    model = getattr(transformers, auto).from_pretrained(folder).eval()
    model.config.use_cache = False  # as in training
    model.generation_config = config_of(folder, **wanted)
    return model, Context(tokenizer, LabelScheme("text"), kind, 64, config=config)


def batch_of(texts, tokenizer, side="right"):
    tokenizer.padding_side = side
    return tokenizer(texts, padding=True, return_tensors="pt", return_token_type_ids=False)


FAMILIES = [
    ("bart", "encoder-decoder", "AutoModelForSeq2SeqLM"),
    ("t5", "encoder-decoder", "AutoModelForSeq2SeqLM"),
    ("gpt2", "decoder-only", "AutoModelForCausalLM"),
    ("opt", "decoder-only", "AutoModelForCausalLM"),
]


@pytest.mark.parametrize("wanted", [{}, {"num_beams": 3, "length_penalty": 0.5}], ids=["greedy", "beams"])
@pytest.mark.parametrize(("family", "kind", "auto"), FAMILIES)
def test_a_padded_batch_writes_what_transformers_writes_text_by_text(family, kind, auto, wanted, checkpoints):
    model, context = writer(checkpoints(family), kind, auto, max_new_tokens=7, **wanted)
    for side in ("right", "left") if kind == "decoder-only" else ("right",):
        texts = generate_texts(model, batch_of(TEXTS, context.tokenizer, side), context)
        for text, written in zip(TEXTS, texts, strict=True):
            inputs = context.tokenizer(text, return_tensors="pt", return_token_type_ids=False)
            [ids] = model.generate(**inputs)
            new = ids[inputs["input_ids"].shape[1] :] if kind == "decoder-only" else ids
            assert written == context.tokenizer.decode(new, skip_special_tokens=True)


@pytest.mark.parametrize(("family", "kind", "auto"), FAMILIES[::2])
def test_samples_depend_on_the_batch_alone_whatever_the_threads(family, kind, auto, checkpoints):
    model, context = writer(checkpoints(family), kind, auto, max_new_tokens=9, do_sample=True, top_k=0)
    batches = [batch_of([text], context.tokenizer) for text in TEXTS]
    one_by_one = [generate_texts(model, batch, context) for batch in batches]
    torch.manual_seed(99)
    state = torch.get_rng_state()
    with torch.no_grad():
        threaded = list(in_threads(lambda batch: generate_texts(model, batch, context), batches))
    assert threaded == one_by_one
    assert torch.equal(torch.get_rng_state(), state)
    assert len({text for [text] in one_by_one}) > 1
    model.generation_config.do_sample = False
    assert [generate_texts(model, batch, context) for batch in batches] != one_by_one


def test_padded_left_moves_padding_and_keeps_the_order():
    ids, mask = (
        torch.tensor([[5, 6, 0, 0], [1, 2, 3, 4], [0, 7, 8, 0]]),
        torch.tensor([[1, 1, 0, 0], [1] * 4, [0, 1, 1, 0]]),
    )
    ids, mask = padded_left(ids, mask)
    assert ids.tolist() == [[0, 0, 5, 6], [1, 2, 3, 4], [0, 0, 7, 8]]
    assert mask.tolist() == [[0, 0, 1, 1], [1, 1, 1, 1], [0, 0, 1, 1]]


def test_length_is_the_recipes_else_the_checkpoints_else_what_the_model_can_take(checkpoints, tmp_path):
    assert config_of(checkpoints("t5")).max_new_tokens == 128
    assert config_of(checkpoints("bart")).max_new_tokens == 63
    assert config_of(checkpoints("t5"), max_new_tokens=9).max_new_tokens == 9
    tokenizer, config = parts_of(checkpoints("t5"))
    transformers.GenerationConfig(max_length=33, num_beams=4, early_stopping=True).save_pretrained(tmp_path)
    own = generation_config(str(tmp_path), None, config, tokenizer, {}, {})
    assert (own.max_length, own.max_new_tokens, own.num_beams) == (33, None, 4)
    changed = generation_config(str(tmp_path), None, config, tokenizer, {"max_new_tokens": 9, "num_beams": 1}, {})
    assert (changed.max_length, changed.max_new_tokens, changed.early_stopping) == (None, 9, None)


def test_settings_that_contradict_each_other_are_one_clear_error(checkpoints):
    with pytest.raises(FinetuneError, match=r"generation\.temperature: .*do_sample: true"):
        config_of(checkpoints("bart"), temperature=0.5)
    with pytest.raises(FinetuneError, match=r"generation\.max_new_tokens: 64, where the model can take 63"):
        config_of(checkpoints("bart"), max_new_tokens=64)


def test_the_settings_of_a_recipe_are_names_of_generation_config():
    assert set(SETTINGS) <= set(transformers.GenerationConfig().to_dict())


GOOD_VALUES = {
    "early_stopping": "never", "bad_words_ids": [[5]], "suppress_tokens": [5], "begin_suppress_tokens": [5],
    "do_sample": True, "renormalize_logits": True, "remove_invalid_values": True, "temperature": 0.7,
    "length_penalty": -0.5, "repetition_penalty": 1.2, "encoder_repetition_penalty": 1.2,
    **dict.fromkeys(("top_p", "min_p", "typical_p", "epsilon_cutoff", "eta_cutoff"), 0.5),
}  # fmt: skip


def test_every_setting_takes_what_transformers_takes(checkpoints):
    tokenizer, config = parts_of(checkpoints("bart"))
    folder = str(checkpoints("bart"))
    for name, kind in SETTINGS.items():
        value = GOOD_VALUES.get(name, 2)
        assert kind.holds(value), name
        beams = {"num_beams": 2} if name in ("early_stopping", "length_penalty") else {}
        wanted = {"do_sample": True, **beams, name: value}
        assert getattr(generation_config(folder, None, config, tokenizer, wanted, {}), name) == value
    assert not any(kind.holds("fast") or kind.holds(None) for kind in SETTINGS.values())
    assert not SETTINGS["num_beams"].holds(-1)
    assert not SETTINGS["max_new_tokens"].holds(True)
