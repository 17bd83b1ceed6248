import pytest
import torch
from torch import nn

from finetune.models.fast.dropout import FastDropout, drop, keep_mask, masks_from, replace_dropout


@pytest.mark.parametrize("rate", [0.1, 0.25, 0.5, 0.9])
def test_mask_drops_at_its_rate(rate):
    torch.manual_seed(0)
    kept = keep_mask(torch.Size([1_000_003]), rate)
    assert set(kept.unique().tolist()) == {0.0, 1.0}
    # Four standard deviations of a share of a million draws.
    assert float(kept.float().mean()) == pytest.approx(1 - rate, abs=4 * (rate * (1 - rate) / 1e6) ** 0.5)


def test_mask_elements_are_independent_of_their_neighbours():
    torch.manual_seed(0)
    kept = keep_mask(torch.Size([400_000]), 0.5).float() - 0.5
    for distance in (1, 2, 3, 4, 8):
        both = float((kept[distance:] * kept[:-distance]).mean()) / 0.25
        assert abs(both) < 4 / 400_000**0.5


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_drop_scales_what_it_keeps(dtype):
    torch.manual_seed(0)
    values = torch.full((1000, 100), 3.0, dtype=dtype)
    dropped = drop(values, 0.1)
    assert dropped.dtype == dtype
    kept = dropped[dropped != 0]
    torch.testing.assert_close(kept, torch.full_like(kept, 3.0 / 0.9))
    assert float(dropped.float().mean()) == pytest.approx(3.0, rel=0.01)


def test_drop_gives_the_gradient_of_what_it_kept():
    torch.manual_seed(0)
    values = torch.randn(50, 40, requires_grad=True)
    dropped = drop(values, 0.3)
    dropped.sum().backward()
    assert torch.equal(values.grad, torch.where(dropped == 0, 0.0, 1 / 0.7))


def test_everything_dropped_is_zero():
    assert torch.equal(drop(torch.ones(8), 1.0), torch.zeros(8))


def test_masks_follow_the_generator_and_leave_the_global_one_alone():
    before = torch.get_rng_state()
    with masks_from(torch.Generator().manual_seed(3)):
        first = keep_mask(torch.Size([1000]), 0.5)
    with masks_from(torch.Generator().manual_seed(3)):
        again = keep_mask(torch.Size([1000]), 0.5)
    assert torch.equal(first, again)
    assert torch.equal(before, torch.get_rng_state())
    assert not torch.equal(first, keep_mask(torch.Size([1000]), 0.5))
    assert not torch.equal(before, torch.get_rng_state())


def test_replaced_dropout_keeps_rates_modes_and_names():
    model = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.Dropout(0.2)), nn.Dropout(0.0)).eval()
    names = list(model.state_dict())
    replace_dropout(model)
    found = [module for module in model.modules() if isinstance(module, FastDropout)]
    assert [module.p for module in found] == [0.2, 0.0]
    assert not any(module.training for module in found)
    assert list(model.state_dict()) == names
    values = torch.randn(3, 2)
    assert torch.equal(found[0](values), values)
    assert not torch.equal(found[0].train()(torch.ones(1000)), torch.ones(1000))
