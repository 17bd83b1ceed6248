import sys
import types

import pytest

from finetune.emissions.allocation import (
    Gpu,
    has_ambiguous_order,
    has_nvidia_driver,
    memory_limit_bytes,
    nvidia_gpus,
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
        ("1,1", (1,)),
        ("0,-1,2", (0,)),
        ("0,7,2", (0,)),
        ("7", ()),
        ("GPU-4e81aaaa-1111", (0,)),
        ("GPU-4e81", (0,)),
        ("GPU-4e82", ()),  # two cards begin so
        ("GPU-4e82b,GPU-4e82c", (1, 2)),
        ("GPU-ffff", ()),
        ("MIG-99990000-aaaa", (1,)),
        ("MIG-99990000-aaaa,MIG-99990000-bbbb", (1,)),
        ("MIG-GPU-4e82bbbb-2222/1/0", (1,)),
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


def write(root, name, text):
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.mark.parametrize(
    ("files", "limit"),
    [
        ({}, None),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "8589934592\n"}, 8589934592),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "max\n"}, None),
        (
            {
                "proc/self/cgroup": "0::/slurm/job_7/step_0\n",
                "sys/fs/cgroup/slurm/job_7/step_0/memory.max": "max\n",
                "sys/fs/cgroup/slurm/job_7/memory.max": "1000\n",
                "sys/fs/cgroup/slurm/memory.max": "2000\n",
            },
            1000,
        ),
        ({"proc/self/cgroup": "0::/../other\n", "sys/fs/cgroup/memory.max": "5\n"}, 5),
        (
            {
                "proc/self/cgroup": "3:cpu,cpuacct:/x\n4:memory:/docker/abc\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "4096\n",
            },
            4096,
        ),
        (
            {
                "proc/self/cgroup": "4:memory:/\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
            },
            None,
        ),
    ],
)
def test_memory_limit_is_the_tightest_of_the_cgroups(tmp_path, files, limit):
    for name, text in files.items():
        write(tmp_path, name, text)
    assert memory_limit_bytes(tmp_path) == limit
