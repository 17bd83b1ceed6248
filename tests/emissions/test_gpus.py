import sys
import types

import pytest

from finetune.emissions.gpus import (
    Gpu,
    compute_processes,
    has_ambiguous_order,
    has_nvidia_driver,
    nvidia_gpus,
    strangers,
    visible_gpus,
)

CARDS = (
    Gpu(0, "GPU-4e81aaaa-1111", "A100"),
    Gpu(1, "GPU-4e82bbbb-2222", "A100", ("MIG-99990000-aaaa", "MIG-99990000-bbbb")),
    Gpu(2, "GPU-4e82cccc-3333", "A100"),
)


@pytest.mark.parametrize(
    ("stated", "indices"),
    [
        (None, (0, 1, 2)),
        ("", ()),
        ("-1", ()),
        ("none", ()),
        ("NoDevFiles", ()),
        ("0", (0,)),
        ("2,0", (0, 2)),
        (" 1 , 2 ", (1, 2)),
        ("1,1", ()),  # twice the same: CUDA takes none
        ("0,1,0", ()),
        ("+1", (1,)),
        ("1gpu2,2ampere", (1, 2)),
        ("1,GPU-4e81aaaa-1111", (1,)),
        ("0,-1,2", (0,)),
        ("0,7,2", (0,)),
        ("7", ()),
        ("GPU-4e81aaaa-1111", (0,)),
        ("GPU-4e81", (0,)),
        ("GPU-4e82", ()),  # two cards begin so
        ("GPU-4e82b,GPU-4e82c", (1, 2)),
        ("GPU-ffff", ()),
        ("GPU-4e81aaaa-1111,1", (0,)),  # the first entry says what the list holds
        ("GPU-4e81aaaa-1111, GPU-4e82c", (0, 2)),
        ("GPU-4e81,GPU-4e81aaaa", ()),
        ("\t2 ,,1", (2,)),
        ("MIG-99990000-aaaa", (1,)),
        ("MIG-99990000-aaaa,MIG-99990000-bbbb", (1,)),
        ("MIG-GPU-4e82bbbb-2222/1/0", (1,)),
        ("MIG-GPU-4e82bbbb-2222/1/0,MIG-GPU-4e82bbbb-2222/2/0", (1,)),
        ("MIG-99990000-aaaa,MIG-99990000-aaaa", ()),
        ("MIG-99990000", ()),  # two slices begin so
        ("MIG-ffff", ()),
    ],
)
def test_visible_gpus_reads_the_variable_as_cuda_does(stated, indices):
    assert visible_gpus(stated, CARDS) == indices


def test_visible_gpus_of_a_machine_without_any():
    assert visible_gpus(None, ()) == ()
    assert visible_gpus("0", ()) == ()


def test_ambiguous_order_needs_unlike_cards_and_indices():
    unlike = (Gpu(0, "GPU-a", "T4"), Gpu(1, "GPU-b", "A100"))
    assert has_ambiguous_order("0", unlike, {})
    assert not has_ambiguous_order("0", unlike, {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"})
    assert not has_ambiguous_order("GPU-a", unlike, {})
    assert not has_ambiguous_order("0", CARDS, {})


def test_nvidia_driver_is_seen_without_nvml(tmp_path):
    assert not has_nvidia_driver(tmp_path)
    (tmp_path / "proc/driver/nvidia/gpus/0000:01:00.0").mkdir(parents=True)
    assert has_nvidia_driver(tmp_path)


class NvmlError(Exception):
    pass


def fake_nvml(cards, broken=False):
    """NVML with cards {uuid: {place: uuid of a slice}}; broken: its library does not load."""

    def start():
        if broken:
            raise NvmlError("Driver Not Loaded")

    def part(handle, number):
        if number not in cards[handle]:
            raise NvmlError("Not Found")
        return cards[handle][number]

    return types.SimpleNamespace(
        NVMLError=NvmlError,
        nvmlInit=start,
        nvmlDeviceGetCount=lambda: len(cards),
        nvmlDeviceGetHandleByIndex=lambda index: list(cards)[index],
        nvmlDeviceGetUUID=lambda handle: handle.encode(),
        nvmlDeviceGetName=lambda handle: "H200",
        nvmlDeviceGetMaxMigDeviceCount=lambda handle: 7,
        nvmlDeviceGetMigDeviceHandleByIndex=part,
    )


def test_nvidia_gpus_lists_cards_and_scattered_slices(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", fake_nvml({"GPU-a": {}, "GPU-b": {1: "MIG-x", 5: "MIG-y"}}))
    assert nvidia_gpus() == (Gpu(0, "GPU-a", "H200"), Gpu(1, "GPU-b", "H200", ("MIG-x", "MIG-y")))


def test_nvidia_gpus_is_none_where_nvml_cannot_be_asked(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", fake_nvml({}, broken=True))
    assert nvidia_gpus() is None
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert nvidia_gpus() is None


def test_compute_processes_leaves_out_a_card_that_cannot_tell(monkeypatch):
    nvml = fake_nvml({"GPU-a": {}, "GPU-b": {}})

    def running(handle):
        if handle == "GPU-b":
            raise NvmlError("Not Supported")
        return [types.SimpleNamespace(pid=11), types.SimpleNamespace(pid=12)]

    nvml.nvmlDeviceGetComputeRunningProcesses = running
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    assert compute_processes([0, 1]) == {0: {11, 12}}
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert compute_processes([0]) == {}


def test_strangers_are_those_that_are_not_ours():
    listed = {0: frozenset({1, 2, 30}), 1: frozenset({2}), 2: frozenset()}
    assert strangers(listed, [1, 2], before_own_work=False) == {0: {30}}
    assert strangers(listed, [], before_own_work=True) == {0: {1, 2, 30}, 1: {2}}


def test_strangers_are_not_told_from_ourselves_where_ids_are_numbered_otherwise():
    listed = {0: frozenset({4001, 4002})}
    assert strangers(listed, [1, 2], before_own_work=False) == {}
    assert strangers(listed, [1, 2], before_own_work=True) == {0: {4001, 4002}}
