import pytest
import torch
from transformers import AutoConfig, AutoModelForSequenceClassification

from finetune.models.fast.attention import use_fast_attention
from finetune.models.fast.first_token import keep_first_token

SIZES = {
    "vocab_size": 50, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64,
    "max_position_embeddings": 40, "pad_token_id": 1, "num_labels": 3,
}  # fmt: skip
DISTILBERT = {"vocab_size": 50, "dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64, "num_labels": 3}


def build(family, **changes):
    torch.manual_seed(0)
    sizes = DISTILBERT | {"dropout": 0.0} if family == "distilbert" else SIZES | {"hidden_dropout_prob": 0.0}
    attention = "attention_dropout" if family == "distilbert" else "attention_probs_dropout_prob"
    model = AutoModelForSequenceClassification.from_config(
        AutoConfig.for_model(family, **{**sizes, attention: 0.0, **changes})
    )
    model.train()
    return model


def batch():
    torch.manual_seed(1)
    mask = torch.tensor([[1] * 9, [1] * 5 + [0] * 4, [1] + [0] * 8])
    return {"input_ids": torch.randint(2, 50, (3, 9)) * mask + (1 - mask), "attention_mask": mask}


def answer(model):
    """Return logits, their gradients by parameter, and how many tokens the last layer made states of."""
    tokens = []
    last = model.base_model.transformer if model.config.model_type == "distilbert" else model.base_model.encoder
    handle = last.layer[-1].register_forward_hook(lambda module, given, made: tokens.append(made.shape[1]))
    logits = model(**batch()).logits
    handle.remove()
    (logits * torch.arange(9.0).view(3, 3)).sum().backward()
    found = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return logits, found, tokens


@pytest.mark.parametrize("family", ["bert", "roberta", "xlm-roberta", "camembert", "electra", "distilbert"])
def test_first_token_alone_gives_the_same_logits_and_gradients(family):
    model = build(family)
    logits, gradients, tokens = answer(model)
    assert tokens == [9]
    use_fast_attention(model)
    keep_first_token(model)
    found, again, tokens = answer(model)
    assert tokens == [1]
    torch.testing.assert_close(found, logits)
    assert again.keys() == gradients.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(again[name], gradient, msg=name)


def test_first_token_alone_keeps_dropout_in_attention():
    model = build("bert", attention_probs_dropout_prob=0.5)
    keep_first_token(model)
    given = batch()
    one, other = (model(**given).logits for _ in range(2))
    assert not torch.equal(one[0], other[0])
    model.eval()
    one, other = (model(**given).logits for _ in range(2))
    assert torch.equal(one, other)


@pytest.mark.parametrize("changes", [{"is_decoder": True}, {}])
def test_models_whose_heads_read_more_are_left_alone(changes):
    model = build("bert", **changes) if changes else build("mpnet")
    before = [module.forward for module in model.modules()]
    keep_first_token(model)
    assert [module.forward for module in model.modules()] == before
