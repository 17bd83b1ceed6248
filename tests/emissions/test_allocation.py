import os

import pytest

from finetune.emissions.allocation import (
    GIB,
    Process,
    cpu_share,
    group_cpu_seconds,
    memory_limit_bytes,
    memory_share,
    this_process,
)


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


def machine(root, cpus="0-63", allowed="0-63", **files):
    """Make a fake machine; a name of a file has __ for / and starts below sys/fs/cgroup."""
    write(root, "sys/devices/system/cpu/online", f"{cpus}\n")
    write(root, "proc/self/status", f"Name:\tpython\nCpus_allowed_list:\t{allowed}\nMems_allowed:\t1\n")
    for name, text in files.items():
        write(root, name.replace("__", "/"), text)


V2, V1 = {"proc__self__cgroup": "0::/pod/app\n"}, {"proc__self__cgroup": "2:cpuset:/app\n3:cpu,cpuacct:/app\n"}


@pytest.mark.parametrize(
    ("layout", "words"),
    [
        ({}, None),
        ({"allowed": "4-5"}, "affinity-scaled, 2 of 64 processors"),
        ({"allowed": "0-2,8"}, "affinity-scaled, 4 of 64 processors"),
        (V2 | {"sys/fs/cgroup/pod/app/cpu.max": "150000 100000\n"}, "cgroup-scaled, 1.5 of 64 processors"),
        (V2 | {"sys/fs/cgroup/pod/app/cpu.max": "max 100000\n"}, None),
        (
            V2
            | {
                "sys/fs/cgroup/pod/app/cpu.max": "800000 100000\n",
                "sys/fs/cgroup/pod/cpu.max": "300000 100000\n",
                "sys/fs/cgroup/cpu.max": "max 100000\n",
            },
            "cgroup-scaled, 3 of 64 processors",
        ),
        (
            V2 | {"allowed": "4-5", "sys/fs/cgroup/pod/cpuset.cpus.effective": "4-5\n"},
            "cgroup-scaled, 2 of 64 processors",
        ),
        (
            V2 | {"sys/fs/cgroup/pod/cpuset.cpus.effective": "0-7\n", "sys/fs/cgroup/pod/cpu.max": "600000 100000\n"},
            "cgroup-scaled, 6 of 64 processors",
        ),
        ({"proc__self__cgroup": "0::/../x\n", "sys/fs/cgroup/cpu.max": "200000 100000\n"},
         "cgroup-scaled, 2 of 64 processors"),
        (
            V1 | {"sys/fs/cgroup/cpu,cpuacct/app/cpu.cfs_quota_us": "400000\n",
                  "sys/fs/cgroup/cpu,cpuacct/app/cpu.cfs_period_us": "100000\n"},
            "cgroup-scaled, 4 of 64 processors",
        ),
        (
            V1 | {"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n"},
            None,
        ),
        (
            V1 | {"allowed": "0-15", "sys/fs/cgroup/cpuset/app/cpuset.cpus": "0-15\n"},
            "cgroup-scaled, 16 of 64 processors",
        ),
        ({"cpus": "0-1", "allowed": "0-1", **V2, "sys/fs/cgroup/pod/cpu.max": "400000 100000\n"}, None),
    ],
)  # fmt: skip
def test_cpu_share_is_the_tightest_of_quota_and_processors(tmp_path, layout, words):
    machine(tmp_path, **layout)
    share = cpu_share(root=tmp_path, environment={})
    assert (share and share.words()) == words


SLURM = {"SLURM_JOB_ID": "77"}


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"SLURM_CPUS_ON_NODE": "8"}, None),  # left over from somewhere: no job
        (SLURM, None),
        (SLURM | {"SLURM_CPUS_ON_NODE": "8"}, "SLURM-scaled, 8 of 64 processors"),
        (SLURM | {"SLURM_JOB_CPUS_PER_NODE": "72(x2),36"}, None),
        (SLURM | {"SLURM_JOB_CPUS_PER_NODE": "12(x2),36", "SLURM_NODEID": "2"}, "SLURM-scaled, 36 of 64 processors"),
        (SLURM | {"SLURM_JOB_CPUS_PER_NODE": "12(x2),36", "SLURM_NODEID": "1"}, "SLURM-scaled, 12 of 64 processors"),
        (SLURM | {"SLURM_JOB_CPUS_PER_NODE": "nonsense"}, None),
        (SLURM | {"SLURM_CPUS_ON_NODE": "64"}, None),
    ],
)
def test_cpu_share_of_a_slurm_job(tmp_path, environment, words):
    machine(tmp_path)
    share = cpu_share(root=tmp_path, environment=environment)
    assert (share and share.words()) == words
    assert share is None or share.key == "slurm-77"


def test_cpu_share_takes_all_processes_of_the_run_together(tmp_path):
    machine(tmp_path, allowed="0-3")
    ranks = [Process(1, (0, 1, 2, 3)), Process(2, (4, 5, 6, 7)), Process(3, (2, 3))]
    share = cpu_share(ranks, tmp_path, {})
    assert (share.count, share.numbers, share.key) == (8, tuple(range(8)), "0-7")
    assert cpu_share([*ranks, Process(4)], tmp_path, {}) is None  # one of them does not know


def test_this_process_knows_its_processors(tmp_path, monkeypatch):
    monkeypatch.setattr("finetune.emissions.gpus.nvidia_gpus", lambda: None)
    machine(tmp_path, allowed="8,10-11")
    assert this_process(tmp_path, {}) == Process(os.getpid(), (8, 10, 11), ())
    assert this_process(tmp_path / "elsewhere", {}).cpus is None


def test_this_process_sees_its_own_cards(tmp_path, monkeypatch):
    from finetune.emissions.gpus import Gpu

    monkeypatch.setattr("finetune.emissions.gpus.nvidia_gpus", lambda: (Gpu(0, "GPU-a"), Gpu(1, "GPU-b")))
    assert this_process(tmp_path, {"CUDA_VISIBLE_DEVICES": "1"}).gpu_uuids == ("GPU-b",)


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, (8 * GIB, "cgroup")),
        ({"SLURM_MEM_PER_NODE": "4096"}, (8 * GIB, "cgroup")),  # no job
        (SLURM | {"SLURM_MEM_PER_NODE": "4096"}, (4 * GIB, "SLURM")),
        (SLURM | {"SLURM_MEM_PER_NODE": "0"}, (8 * GIB, "cgroup")),
        (SLURM | {"SLURM_MEM_PER_CPU": "1024", "SLURM_CPUS_ON_NODE": "6"}, (6 * GIB, "SLURM")),
        (SLURM | {"SLURM_MEM_PER_CPU": "1024"}, (8 * GIB, "cgroup")),
        (SLURM | {"SLURM_MEM_PER_GPU": "2048", "SLURM_GPUS_ON_NODE": "2"}, (4 * GIB, "SLURM")),
        (SLURM | {"SLURM_MEM_PER_NODE": "9000"}, (8 * GIB, "cgroup")),
    ],
)
def test_memory_share_is_the_tighter_of_cgroup_and_slurm(tmp_path, environment, expected):
    machine(tmp_path, **V2 | {"sys/fs/cgroup/pod/memory.max": f"{8 * GIB}\n"})
    share = memory_share(64 * GIB, tmp_path, environment)
    assert (share.bytes, share.known_from) == expected
    assert memory_share(4 * GIB, tmp_path, {}) is None


def test_shares_of_two_groups_have_different_keys(tmp_path):
    keys = set()
    for name in ("one", "two"):
        machine(tmp_path, proc__self__cgroup=f"0::/{name}\n", **{f"sys/fs/cgroup/{name}/cpu.max": "100000 100000\n"})
        keys.add(cpu_share(root=tmp_path, environment={}).key)
    assert len(keys) == 2
    assert all(key.startswith("cgroup-") for key in keys)


@pytest.mark.parametrize(
    ("group", "file", "text"),
    [
        ("sys/fs/cgroup/app", "sys/fs/cgroup/app/cpu.stat", "usage_usec 2500000\nuser_usec 1\n"),
        ("sys/fs/cgroup/cpu/app", "sys/fs/cgroup/cpuacct/app/cpuacct.usage", "2500000000\n"),
        ("sys/fs/cgroup/cpu,cpuacct/app", "sys/fs/cgroup/cpu,cpuacct/app/cpuacct.usage", "2500000000\n"),
    ],
)
def test_group_cpu_seconds_reads_both_kinds(tmp_path, group, file, text):
    assert group_cpu_seconds(tmp_path / group) is None
    write(tmp_path, file, text)
    assert group_cpu_seconds(tmp_path / group) == 2.5
