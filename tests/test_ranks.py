"""finetune.ranks: what a process alone is told, and how work is dealt out."""

import pytest

from finetune import ranks
from finetune.console import say
from finetune.data.batching import micro_batches
from finetune.errors import FinetuneError


@pytest.fixture
def as_rank(monkeypatch):
    """Return a function that makes this process look like one of several."""

    def be(rank: int, size: int):
        monkeypatch.setenv("RANK", str(rank))
        monkeypatch.setenv("WORLD_SIZE", str(size))
        monkeypatch.setenv("LOCAL_RANK", str(rank % 2))

    return be


def test_a_process_alone_is_the_main_one():
    assert (ranks.rank(), ranks.size(), ranks.is_main(), ranks.is_local_main()) == (0, 1, True, True)
    with ranks.joined(1), ranks.local_main_first():
        assert ranks.broadcast("a") == "a"
        assert ranks.on_main(lambda: 3) == 3
        assert ranks.gather(4) == [4]
        assert ranks.largest(5) == ranks.total(5) == 5


def test_the_first_process_of_each_machine_is_told_apart(as_rank):
    as_rank(2, 4)
    assert not ranks.is_main()
    assert ranks.is_local_main()
    as_rank(3, 4)
    assert not ranks.is_local_main()


def test_only_the_first_process_talks(as_rank, capsys):
    as_rank(1, 2)
    say("said twice")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("size", [1, 2, 3, 5])
@pytest.mark.parametrize("items", [1, 2, 6, 7])
def test_shares_are_equally_long_and_hold_every_item_once(items, size, as_rank):
    whole, shares = list(range(items)), []
    for rank in range(size):
        as_rank(rank, size)
        shares.append(ranks.share(whole, filler=lambda item: item + 100))
    assert len({len(own) for own in shares}) == 1
    assert {item for own in shares for item, counts in own if not counts} <= {items + 99}
    assert [item for turn in zip(*shares, strict=True) for item, counts in turn if counts] == whole


@pytest.mark.parametrize("rows", range(1, 18))
@pytest.mark.parametrize("world", [1, 2, 3, 4])
def test_every_rank_has_equally_many_micro_batches(rows, world):
    import numpy

    batch = numpy.arange(100, 100 + rows)
    dealt = [micro_batches(batch, 4, rank, world) for rank in range(world)]
    assert len({len(own) for own in dealt}) == 1
    assert sorted(row for own in dealt for part, counts in own if counts for row in part) == list(batch)
    assert {len(part) for own in dealt for part, counts in own if not counts} <= {1}


def test_more_processes_than_gpus_are_refused(as_rank, monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    as_rank(0, 2)
    with pytest.raises(FinetuneError, match="2 processes on a machine with 1 GPU"), ranks.joined():
        pass


def test_processes_that_cannot_meet_are_told(as_rank, monkeypatch):
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    as_rank(0, 2)
    with pytest.raises(FinetuneError, match=r"2 processes were started .* MASTER_ADDR"), ranks.joined():
        pass
