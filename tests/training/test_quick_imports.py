"""The garbage collector rests during heavy imports, and works again after them."""

import gc
import weakref

import pytest

from finetune.training.quick_imports import quick_imports


@pytest.fixture(autouse=True)
def collector():
    """Leave the collector as it was found."""
    frozen = gc.get_freeze_count()
    yield
    gc.enable()
    if not frozen:
        gc.unfreeze()


class Node:
    """An object that only the cyclic collector can free."""

    def __init__(self):
        self.itself = self


def test_quick_imports_switch_the_collector_off_inside_alone():
    gc.enable()
    with quick_imports():
        assert not gc.isenabled()
    assert gc.isenabled()


def test_quick_imports_leave_a_collector_off_that_was_off():
    gc.disable()
    with quick_imports():
        pass
    assert not gc.isenabled()


def test_quick_imports_switch_the_collector_on_after_an_error():
    gc.enable()
    with pytest.raises(ImportError), quick_imports():
        raise ImportError("no such library")
    assert gc.isenabled()


def test_quick_imports_freeze_once_so_that_an_earlier_run_can_be_collected():
    with quick_imports():
        pass
    assert gc.get_freeze_count() > 0
    node = Node()
    gone = weakref.ref(node)
    with quick_imports():
        pass
    del node
    gc.collect()
    assert gone() is None
