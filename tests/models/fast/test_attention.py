import pytest
import torch
from torch import nn

from finetune.models.fast.attention import attend
from finetune.models.fast.dropout import keep_mask, masks_from


def reference(query, key, value, mask, kept, scaling):
    """Softmax attention with a given mask of what is kept, written out in float64."""
    scores = query.double() @ key.double().transpose(2, 3) * scaling
    if mask is not None:
        scores = scores.masked_fill(~mask, -1e30) if mask.dtype == torch.bool else scores + mask.double()
    return (scores.softmax(-1) * kept) @ value.double()


def heads(tokens, seed=0, rows=3, count=4, width=8):
    torch.manual_seed(seed)
    # As models make them: (rows, tokens, heads, width) seen as (rows, heads, tokens, width).
    return [torch.randn(rows, tokens, count, width).transpose(1, 2).requires_grad_() for _ in range(3)]


def padding_mask(rows, tokens):
    lengths = torch.tensor([tokens, max(1, tokens - 2), max(1, tokens // 2)])[:rows]
    return (torch.arange(tokens) < lengths[:, None])[:, None, None, :].expand(rows, 1, tokens, tokens)


MASKS = {
    "none": lambda rows, tokens: None,
    "padding": padding_mask,
    "causal": lambda rows, tokens: torch.ones(tokens, tokens, dtype=torch.bool).tril()[None, None],
    "added": lambda rows, tokens: torch.where(padding_mask(rows, tokens), 0.0, torch.finfo(torch.float32).min),
}


@pytest.mark.parametrize("mask_name", MASKS)
@pytest.mark.parametrize("tokens", [1, 5, 16, 23])
def test_attention_equals_the_formula_with_the_same_masks(tokens, mask_name):
    query, key, value = heads(tokens)
    mask = MASKS[mask_name](3, tokens)
    module = nn.Module()
    module.is_causal = False
    with masks_from(torch.Generator().manual_seed(5)):
        output, _ = attend(module, query, key, value, mask, dropout=0.2, scaling=0.3)
    wide = -(-tokens // 16) * 16
    with masks_from(torch.Generator().manual_seed(5)):
        kept = keep_mask(torch.Size([12, tokens, wide]), 0.2).double()[..., :tokens].view(3, 4, tokens, tokens) / 0.8
    expected = reference(query, key, value, mask, kept, 0.3).transpose(1, 2)
    torch.testing.assert_close(output.double(), expected, rtol=1e-5, atol=1e-5)
    direction = torch.randn(output.shape)
    found = torch.autograd.grad((output * direction).sum(), (query, key, value))
    wanted = torch.autograd.grad((expected * direction).sum(), (query, key, value))
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_causal_attention_without_a_mask_sees_no_later_token():
    query, key, value = heads(6)
    module = nn.Module()
    module.is_causal = True
    with masks_from(torch.Generator().manual_seed(1)):
        before, _ = attend(module, query, key, value, None, dropout=0.1)
    changed = value.detach().clone()
    changed[:, :, 4:] += 1
    with masks_from(torch.Generator().manual_seed(1)):
        after, _ = attend(module, query, key, changed, None, dropout=0.1)
    assert torch.equal(before[:, :4], after[:, :4])
    assert not torch.equal(before[:, 4:], after[:, 4:])


def test_attention_without_dropout_is_torch_s_own():
    query, key, value = heads(7)
    module = nn.Module()
    module.is_causal = False
    output, _ = attend(module, query, key, value, None, dropout=0.0)
    expected = nn.functional.scaled_dot_product_attention(query, key, value).transpose(1, 2)
    assert torch.equal(output, expected)


@pytest.mark.parametrize("tokens", [9, 80])
def test_attention_in_bfloat16_stays_near_float64(tokens):
    query, key, value = (part.detach().bfloat16().requires_grad_() for part in heads(tokens))
    module = nn.Module()
    module.is_causal = False
    wide = -(-tokens // 16) * 16
    with torch.autocast("cpu", torch.bfloat16), masks_from(torch.Generator().manual_seed(5)):
        output, _ = attend(module, query, key, value, None, dropout=0.1)
    with masks_from(torch.Generator().manual_seed(5)):
        kept = keep_mask(torch.Size([12, tokens, wide]), 0.1).double()[..., :tokens].view(3, 4, tokens, tokens) / 0.9
    expected = reference(query, key, value, None, kept, 8**-0.5).transpose(1, 2)
    assert output.dtype == torch.bfloat16
    torch.testing.assert_close(output.double(), expected, rtol=0.02, atol=0.02)
    output.float().sum().backward()
    assert query.grad.dtype == torch.bfloat16
    assert all(torch.isfinite(part.grad).all() for part in (query, key, value))


def test_grouped_heads_attend_like_repeated_ones():
    query, key, value = heads(5)
    module = nn.Module()
    module.is_causal, module.num_key_value_groups = False, 2
    with masks_from(torch.Generator().manual_seed(2)):
        output, _ = attend(module, query, key[:, :2], value[:, :2], None, dropout=0.1)
    module.num_key_value_groups = 1
    repeated = [part[:, :2].repeat_interleave(2, dim=1) for part in (key, value)]
    with masks_from(torch.Generator().manual_seed(2)):
        expected, _ = attend(module, query, *repeated, None, dropout=0.1)
    assert torch.equal(output, expected)
