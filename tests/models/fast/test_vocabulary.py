import copy

import pytest
import torch
from torch import nn

from finetune.models.fast.vocabulary import UsedRows, narrow_vocabulary, whole_vocabulary


class Toy(nn.Module):
    def __init__(self, tied=False):
        super().__init__()
        self.embedding = nn.Embedding(50, 4, padding_idx=0)
        self.head = nn.Linear(4, 50 if tied else 2, bias=False)
        if tied:
            self.head.weight = self.embedding.weight

    def get_input_embeddings(self):
        return self.embedding

    def forward(self, ids):
        return self.head(self.embedding(ids).mean(1))


def train(model, batches, optimizer):
    for ids, labels in batches:
        model.train()
        nn.functional.cross_entropy(model(ids), labels).backward()
        norm = nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()
        optimizer.zero_grad()
    return float(norm)


OPTIMIZERS = {
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.05, weight_decay=0.1, fused=True),
    "adamw, plain": lambda p: torch.optim.AdamW(p, lr=0.05, weight_decay=0.1),
    "sgd": lambda p: torch.optim.SGD(p, lr=0.05, weight_decay=0.1),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_narrow_vocabulary_learns_what_the_whole_one_learns(name):
    torch.manual_seed(0)
    whole = Toy()
    narrow, before = copy.deepcopy(whole), whole.embedding.weight.detach().clone()
    batches = [(torch.randint(0, 20, (6, 5)), torch.randint(0, 2, (6,))) for _ in range(40)]
    assert narrow_vocabulary(narrow, torch.unique(torch.cat([ids.flatten() for ids, _ in batches])))
    assert narrow.embedding.weight.shape == (21, 4)
    norms = [train(model, batches, OPTIMIZERS[name](model.parameters())) for model in (whole, narrow)]
    assert norms[1] == pytest.approx(norms[0], rel=1e-5)
    unseen = torch.randint(0, 50, (9, 5))
    torch.testing.assert_close(narrow.eval()(unseen), whole.eval()(unseen))
    with whole_vocabulary(narrow):
        assert list(narrow.state_dict()) == list(whole.state_dict())
        torch.testing.assert_close(narrow.embedding.weight, whole.embedding.weight)
        assert not torch.equal(whole.embedding.weight[30:], before[30:])
    assert isinstance(narrow.embedding, UsedRows)


def test_padding_row_is_kept_and_gets_no_gradient():
    model = Toy()
    assert narrow_vocabulary(model, torch.tensor([3, 4]))
    assert model.embedding.used.tolist() == [0, 3, 4]
    model(torch.tensor([[0, 3, 4]])).sum().backward()
    assert model.embedding.weight.grad[0].abs().sum() == 0
    assert model.embedding.weight.grad[1].abs().sum() > 0


@pytest.mark.parametrize("why", ["tied", "frozen", "nearly all rows are in use"])
def test_whole_vocabulary_stays_where_it_must(why):
    model = Toy(tied=why == "tied")
    if why == "frozen":
        model.embedding.weight.requires_grad_(False)
    used = torch.arange(45) if why.startswith("nearly") else torch.arange(5)
    assert not narrow_vocabulary(model, used)
    assert isinstance(model.embedding, nn.Embedding)
    with whole_vocabulary(model):
        assert isinstance(model.embedding, nn.Embedding)


def test_state_of_a_narrow_model_loads_into_another():
    torch.manual_seed(0)
    model = Toy()
    other = copy.deepcopy(model)
    for each in (model, other):
        narrow_vocabulary(each, torch.tensor([1, 2, 3]))
    train(model, [(torch.tensor([[1, 2], [3, 1]]), torch.tensor([0, 1]))] * 3, torch.optim.AdamW(model.parameters()))
    other.load_state_dict(model.state_dict())
    with whole_vocabulary(model), whole_vocabulary(other):
        assert torch.equal(model.embedding.weight, other.embedding.weight)
