import threading

import pytest
import torch

from finetune.evaluation.predict import in_threads


@pytest.fixture
def three_cores():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def test_in_threads_gives_results_in_the_order_of_the_items(three_cores):
    first_may_end = threading.Event()

    def work(item):
        # The first item ends after the second: a result out of order would show.
        first_may_end.wait(10) if item == 0 else first_may_end.set()
        return item * 2, torch.get_num_threads()

    assert list(in_threads(work, range(20))) == [(item * 2, 1) for item in range(20)]
    assert torch.get_num_threads() == 3


def test_in_threads_takes_few_items_ahead(three_cores):
    taken = []

    def items():
        for item in range(100):
            taken.append(item)
            yield item

    results = in_threads(lambda item: item, items())
    assert next(results) == 0
    assert len(taken) <= 5
    results.close()
    assert len(taken) <= 5


def test_in_threads_raises_what_the_work_raises(three_cores):
    def work(item):
        if item == 2:
            raise ValueError("no")
        return item

    results = in_threads(work, range(5))
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(ValueError, match="no"):
        next(results)
