"""finetune.data.batching: every row once an epoch, the same rows however a batch is cut."""

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune.data.batching import collate, epoch_batches, evaluation_batches, micro_batches

LENGTHS = st.lists(st.integers(1, 60), min_size=1, max_size=300)
STRATEGIES = st.sampled_from(["random", "sequential", "group_by_length"])


@given(LENGTHS, st.integers(1, 40), STRATEGIES, st.integers(0, 9), st.integers(0, 3))
def test_epoch_batches_hold_each_row_once(lengths, size, strategy, seed, epoch):
    batches = epoch_batches(lengths, size, strategy, seed, epoch)
    assert sorted(numpy.concatenate(batches).tolist()) == list(range(len(lengths)))
    assert sorted(len(batch) for batch in batches)[1:] == [size] * (len(batches) - 1)


@given(LENGTHS, st.integers(1, 40), STRATEGIES, st.integers(0, 9))
def test_epoch_batches_depend_on_seed_and_epoch_alone(lengths, size, strategy, seed):
    first, again = (epoch_batches(lengths, size, strategy, seed, 1) for _ in range(2))
    assert [batch.tolist() for batch in first] == [batch.tolist() for batch in again]


def test_epoch_batches_differ_between_epochs():
    lengths = list(range(1, 200))
    first, second = (epoch_batches(lengths, 8, "group_by_length", 0, epoch) for epoch in (0, 1))
    assert [batch.tolist() for batch in first] != [batch.tolist() for batch in second]


def test_epoch_batches_by_length_leave_little_padding():
    lengths = numpy.random.default_rng(0).integers(5, 60, 5000)

    def padded(strategy):
        batches = epoch_batches(lengths, 16, strategy, 0, 0)
        return sum(lengths[batch].max() * len(batch) for batch in batches) / lengths.sum()

    assert padded("group_by_length") < 1.05
    assert padded("random") > 1.5


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=64, unique=True), st.integers(1, 9), st.integers(1, 5))
def test_micro_batches_of_all_ranks_hold_each_row_once(rows, per_device, world):
    batch = numpy.array(rows)
    dealt = [part for rank in range(world) for part in micro_batches(batch, per_device, rank, world)]
    counted = [row for part, counts in dealt if counts for row in part.tolist()]
    assert sorted(counted) == sorted(rows)
    assert all(len(part) <= per_device for part, _ in dealt)


def test_micro_batches_give_a_rank_without_rows_one_that_does_not_count():
    [(rows, counts)] = micro_batches(numpy.array([7]), 4, rank=1, world=2)
    assert rows.tolist() == [7]
    assert counts is False


@given(LENGTHS, st.integers(1, 40))
def test_evaluation_batches_hold_each_row_once_longest_first(lengths, size):
    order = numpy.concatenate(list(evaluation_batches(lengths, size)))
    assert sorted(order.tolist()) == list(range(len(lengths)))
    ordered = [lengths[row] for row in order]
    assert ordered == sorted(lengths, reverse=True)


class Tokenizer:
    pad_token_id = 9
    pad_token_type_id = 0
    padding_side = "right"


@pytest.mark.parametrize(("limit", "device", "width"), [(64, "cuda", 8), (5, "cuda", 5), (64, "cpu", 5)])
def test_collate_pads_by_position_and_never_beyond_the_limit(limit, device, width):
    rows = {"input_ids": [[1, 9, 3], [1, 2, 3, 4, 5]], "attention_mask": [[1, 1, 1], [1] * 5], "labels": [0, 1]}
    batch = collate(rows, Tokenizer(), limit, device)
    assert batch["input_ids"].shape == (2, width)
    # The 9 inside the first text is real although 9 is also the padding token.
    assert batch["attention_mask"][0].tolist() == [1, 1, 1] + [0] * (width - 3)
    assert batch["input_ids"][0].tolist() == [1, 9, 3] + [9] * (width - 3)


def test_collate_pads_on_the_left_when_the_tokenizer_does():
    tokenizer = Tokenizer()
    tokenizer.padding_side = "left"
    batch = collate({"input_ids": [[1, 2]], "attention_mask": [[1, 1]]}, tokenizer, 64, "cuda")
    assert batch["input_ids"][0].tolist() == [9] * 6 + [1, 2]
    assert batch["attention_mask"][0].tolist() == [0] * 6 + [1, 1]
