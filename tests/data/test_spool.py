"""finetune.data.spool: what goes through a file comes back as it was, and leaves nothing behind."""

import numpy
import pyarrow
import pytest

from finetune.data import spool as spool_module
from finetune.data.spool import as_array, scratch_array, spool, spool_table, take_rows
from finetune.errors import FinetuneError


@pytest.fixture(autouse=True)
def small(monkeypatch, tmp_path):
    monkeypatch.setattr(spool_module, "_IN_MEMORY_BYTES", 1000)
    monkeypatch.setenv("FINETUNE_CACHE", str(tmp_path / "cache"))


def batches(count, **columns):
    return [
        pyarrow.record_batch({"text": [f"text {i} {j}" for j in range(50)], "number": range(50), **columns})
        for i in range(count)
    ]


@pytest.mark.parametrize("count", [0, 1, 20])
def test_spool_gives_back_what_it_got(count):
    given = batches(count)
    assert spool(iter(given)) == given


def test_spool_leaves_no_file_and_little_memory(tmp_path):
    given = batches(200)
    before = pyarrow.total_allocated_bytes()
    kept = spool(iter(given))
    assert pyarrow.total_allocated_bytes() - before < 1000
    assert kept == given
    assert list((tmp_path / "cache").iterdir()) == []


def test_spool_keeps_schemas_apart():
    odd = pyarrow.record_batch({"text": pyarrow.nulls(3)})
    given = [*batches(20), odd, odd, *batches(2)]
    assert spool(iter(given)) == given


def test_spool_that_cannot_write_says_so(tmp_path):
    (tmp_path / "cache").write_text("a file in the way")
    with pytest.raises(FinetuneError, match="cannot be kept there") as caught:
        spool(iter(batches(20)))
    assert "FINETUNE_CACHE" in caught.value.hint


def test_take_rows_and_as_array():
    table = spool_table(iter(batches(20)), batches(1)[0].schema)
    mask = numpy.arange(table.num_rows) % 7 == 3
    taken = take_rows(table, mask)
    assert taken.to_pydict() == table.filter(pyarrow.array(mask)).to_pydict()
    assert as_array(taken.column("number"), numpy.int32).tolist() == taken.column("number").to_pylist()
    assert take_rows(table, ~mask).num_rows + taken.num_rows == table.num_rows


@pytest.mark.parametrize("rows", [3, 5000])
def test_scratch_array_is_zeros_to_be_filled(rows, tmp_path):
    array = scratch_array((rows, 2), numpy.float64)
    assert array.shape == (rows, 2)
    assert not array.any()
    array[rows - 1] = [1.5, 2.5]
    assert array.sum() == 4.0
    assert not list(tmp_path.glob("cache/*"))


def test_scratch_array_without_room_says_so(monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(spool_module.os, "posix_fallocate", full)
    with pytest.raises(FinetuneError, match="No space left"):
        scratch_array((5000, 2), numpy.float64)
