"""finetune.models.cut: every family run from what its frozen part hands on."""

import pytest
import torch

from finetune.data.batching import collate
from finetune.models.build import build_model, open_checkpoint
from finetune.models.cut import NoCutError, States, find_cut, inputs_from, read_states, replayed
from finetune.recipe.schema import Model
from finetune.tasks import LabelScheme, all_tasks
from tests.tiny import FAMILIES

TASK = all_tasks()["text-classification"]
LABELS = LabelScheme("single_label_classification", ("bad", "good", "so-so"))
TEXTS = ["lovely", "what a gloomy day it was", "my brother called the film splendid twice"]


def built(folder, freeze):
    wanted = Model(name_or_path=str(folder), freeze=freeze)
    checkpoint = open_checkpoint(wanted)
    return build_model(checkpoint, wanted, TASK, LABELS)[0], checkpoint.tokenizer


def batches(tokenizer, texts=TEXTS):
    """Return each text as a batch of its own, and all of them padded."""
    rows = dict(tokenizer(texts))
    singles = [{name: [values[place]] for name, values in rows.items()} for place in range(len(texts))]
    return [collate(single, tokenizer, 64, "cpu") for single in singles], collate(rows, tokenizer, 64, "cpu")


def cut_of(model, tokenizer, freeze):
    return find_cut(model, freeze, *batches(tokenizer))


# What a head reads of the backbone: BERT's the pooled vector, the others one place of each row.
READS = {"bert": ("pooler_output", "rows")}


@pytest.mark.parametrize("family", FAMILIES)
def test_cut_below_the_head_needs_one_vector_a_row(family, checkpoints):
    model, tokenizer = built(checkpoints(family), "backbone")
    cut = cut_of(model, tokenizer, "backbone")
    assert (cut.output, cut.reads) == READS.get(family, ("last_hidden_state", "places"))
    _, batch = batches(tokenizer)
    states = read_states(cut, batch)
    assert states.values.shape == (3, 32)
    with torch.no_grad():
        expected = model(**batch).logits
        with replayed(cut, states.values):
            found = model(**inputs_from(states, batch)).logits
    assert torch.equal(found, expected)


@pytest.mark.parametrize(
    ("family", "side"), [*((family, "right") for family in FAMILIES if family != "t5"), ("opt", "left")]
)
def test_cut_above_lower_layers_gives_the_same_logits_and_gradients(family, side, checkpoints):
    model, tokenizer = built(checkpoints(family), 1)
    tokenizer.padding_side = side
    cut = cut_of(model, tokenizer, 1)
    _, batch = batches(tokenizer)
    states = read_states(cut, batch)
    assert states.values.shape == (*batch["input_ids"].shape, 32)
    padding = ~batch["attention_mask"].bool()
    states.values[padding] = 0.0
    expected = model(**batch).logits
    model.zero_grad()
    expected.sum().backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    with replayed(cut, states.values):
        found = model(**batch).logits
    found.sum().backward()
    assert torch.allclose(found, expected, atol=1e-6)
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert set(gradients) <= trained
    for name, gradient in gradients.items():
        assert torch.allclose(model.get_parameter(name).grad, gradient, atol=1e-5), name


@pytest.mark.parametrize("freeze", [1, "backbone"])
@pytest.mark.parametrize("family", ["gpt2", "bert", "bart"])
def test_cut_is_refused_where_padding_on_the_left_moves_the_positions(family, freeze, checkpoints):
    model, tokenizer = built(checkpoints(family), freeze)
    tokenizer.padding_side = "left"
    with pytest.raises(NoCutError, match="reads more than the states"):
        cut_of(model, tokenizer, freeze)


def test_cut_inside_t5_is_refused_as_its_layers_share_positions(checkpoints):
    model, tokenizer = built(checkpoints("t5"), 1)
    with pytest.raises(NoCutError, match="reads more than the states"):
        cut_of(model, tokenizer, 1)


def test_cut_may_be_probed_with_padded_rows(checkpoints):
    """For a GPU a row is padded to a multiple of 8."""
    for freeze in (1, "backbone"):
        model, tokenizer = built(checkpoints("gpt2"), freeze)
        singles, batch = batches(tokenizer)
        fill = {"input_ids": tokenizer.pad_token_id}
        padded = [
            {name: torch.nn.functional.pad(tensor, (0, 5), value=fill.get(name, 0)) for name, tensor in single.items()}
            for single in singles
        ]
        assert find_cut(model, freeze, padded, batch).modules


def test_cut_beyond_the_encoder_is_refused(checkpoints):
    model, tokenizer = built(checkpoints("bart"), 3)
    with pytest.raises(NoCutError, match="reads more than the states"):
        cut_of(model, tokenizer, 3)


def test_cut_above_trained_weights_is_refused(checkpoints):
    model, tokenizer = built(checkpoints("bert"), 1)
    model.bert.embeddings.requires_grad_(True)
    with pytest.raises(NoCutError, match="trained weights lie below"):
        cut_of(model, tokenizer, 1)


def test_cut_of_layers_that_are_skipped_at_random_is_refused(checkpoints):
    model, tokenizer = built(checkpoints("bart"), 1)
    model.base_model.encoder.layerdrop = 0.1
    with pytest.raises(NoCutError, match="layerdrop"):
        cut_of(model, tokenizer, 1)


def test_replayed_leaves_the_model_as_it_was(checkpoints):
    model, tokenizer = built(checkpoints("bert"), 1)
    cut = cut_of(model, tokenizer, 1)
    before = list(model.state_dict())
    first, second = cut.modules[0], model.bert.encoder.layer[1]

    def own(*args, **kwargs):
        raise AssertionError("not called")

    first.forward = own  # as another library would patch it
    _, batch = batches(tokenizer)
    with replayed(cut, torch.zeros(1, 1, 32)):
        assert list(model.state_dict()) == before
        assert first.forward is not own
        with pytest.raises(RuntimeError):
            model(**batch)  # states of another batch
    assert first.forward is own
    assert "forward" not in second.__dict__


def test_inputs_from_states_of_tokens_are_the_padded_batch():
    padded = {"input_ids": torch.ones(2, 3), "attention_mask": torch.ones(2, 3)}
    assert inputs_from(States(torch.zeros(2, 3, 4)), padded) == padded
    short = inputs_from(States(torch.zeros(2, 4), torch.tensor([7, 8])), padded)
    assert short["input_ids"].tolist() == [[7], [8]]
    assert short["attention_mask"].tolist() == [[1], [1]]


def test_replayed_gives_each_thread_its_own_states(checkpoints):
    from concurrent.futures import ThreadPoolExecutor

    model, tokenizer = built(checkpoints("bert"), 1)
    cut = cut_of(model, tokenizer, 1)
    singles, _ = batches(tokenizer)
    states = [read_states(cut, single).values for single in singles]
    with torch.no_grad():
        expected = [model(**single).logits for single in singles]

        def answer(place):
            with torch.no_grad(), replayed(cut, states[place]):
                return model(**singles[place]).logits

        def plain(place):
            with torch.no_grad():
                return model(**singles[place]).logits

        with ThreadPoolExecutor(4) as pool:
            found = [pool.submit(answer if turn % 2 else plain, turn % 3) for turn in range(60)]
            assert all(torch.equal(one.result(), expected[turn % 3]) for turn, one in enumerate(found))
    assert not any("forward" in module.__dict__ for module in cut.modules)
