"""What containers and jobs may have of a machine, laid out in a directory."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from pilotmtc.agent.node.allowance import cores, memory

GIB = 1 << 30
V2_MOUNT = "30 23 0:26 {top} /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw"
V1_MOUNTS = (
    "31 23 0:27 {top} /sys/fs/cgroup/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct\n"
    "32 23 0:28 {top} /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory"
)


def lay_out(root: Path, mounts: str, groups: str, files: Mapping[str, str]) -> Path:
    """Make a machine of `files` below ``/sys/fs/cgroup``; return its root."""
    for path, text in {"proc/self/mountinfo": mounts, "proc/self/cgroup": groups}.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(f"22 1 8:1 / / rw - ext4 /dev/sda rw\n{text}\n")
    for path, text in files.items():
        file = root / "sys/fs/cgroup" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{text}\n")
    return root


@pytest.mark.parametrize(
    ("quota", "found"),
    [("50000 100000", 1), ("250000 100000", 2), ("max 100000", 8), ("9900000 100000", 8), ("nonsense", 8)],
)
def test_quota_of_cgroup_2_is_rounded_down_to_whole_cores_and_one_at_least(
    tmp_path: Path, quota: str, found: int
) -> None:
    root = lay_out(tmp_path, V2_MOUNT.format(top="/"), "0::/a/b", {"a/b/cpu.max": quota})
    assert cores(8, {}, root) == found


def test_least_of_all_groups_above_counts(tmp_path: Path) -> None:
    files = {
        "a/b/cpu.max": "400000 100000",
        "a/cpu.max": "300000 100000",
        "a/b/memory.max": "max",
        "a/memory.max": str(2 * GIB),
        "other/cpu.max": "100000 100000",
    }
    root = lay_out(tmp_path, V2_MOUNT.format(top="/"), "0::/a/b", files)
    assert (cores(8, {}, root), memory(8 * GIB, {}, root=root)) == (3, 2 * GIB)


@pytest.mark.parametrize(("top", "own"), [("/docker/x", "/docker/x"), ("/", "/"), ("/docker/x", "/../../elsewhere")])
def test_container_that_sees_its_own_group_alone_has_its_limits(tmp_path: Path, top: str, own: str) -> None:
    root = lay_out(tmp_path, V2_MOUNT.format(top=top), f"0::{own}", {"cpu.max": "200000 100000", "memory.max": "5000"})
    assert (cores(8, {}, root), memory(GIB, {}, root=root)) == (2, 5000)


def test_limits_of_cgroup_1_are_read(tmp_path: Path) -> None:
    files = {
        "cpu,cpuacct/q/cpu.cfs_quota_us": "50000",
        "cpu,cpuacct/q/cpu.cfs_period_us": "100000",
        "cpu,cpuacct/cpu.cfs_quota_us": "-1",
        "cpu,cpuacct/cpu.cfs_period_us": "100000",
        "memory/m/memory.limit_in_bytes": "300000000",
        "memory/memory.limit_in_bytes": "9223372036854771712",
    }
    root = lay_out(tmp_path, V1_MOUNTS.format(top="/"), "4:cpu,cpuacct:/q\n3:memory:/m\n0::/", files)
    assert (cores(8, {}, root), memory(GIB, {}, root=root)) == (1, 300_000_000)
    root = lay_out(tmp_path, V1_MOUNTS.format(top="/"), "4:cpu,cpuacct:/\n3:memory:/\n0::/", files)
    assert (cores(8, {}, root), memory(GIB, {}, root=root)) == (8, GIB)


def test_machine_without_control_groups_has_what_is_there(tmp_path: Path) -> None:
    assert (cores(8, {}, tmp_path), memory(GIB, {}, root=tmp_path)) == (8, GIB)


@pytest.mark.parametrize(
    ("env", "found"),
    [
        ({"SLURMD_NODENAME": "n1", "SLURM_CPUS_ON_NODE": "4"}, 4),
        ({"SLURM_CPUS_ON_NODE": "4"}, 8),  # salloc's shell is on another node
        ({"PBS_ENVIRONMENT": "PBS_BATCH", "NCPUS": "3"}, 3),
        ({"PBS_ENVIRONMENT": "PBS_INTERACTIVE", "PBS_NUM_PPN": "2"}, 2),
        ({"NCPUS": "3"}, 8),
        ({"SLURMD_NODENAME": "n1", "SLURM_CPUS_ON_NODE": "64"}, 8),
        ({"SLURMD_NODENAME": "n1", "SLURM_CPUS_ON_NODE": "odd"}, 8),
    ],
)
def test_cores_of_a_job_are_those_that_its_scheduler_tells(tmp_path: Path, env: dict[str, str], found: int) -> None:
    assert cores(8, env, tmp_path) == found


@pytest.mark.parametrize(
    ("env", "own", "found"),
    [
        ({"SLURM_MEM_PER_NODE": "512"}, 0, 512 << 20),
        ({"SLURM_MEM_PER_NODE": "0"}, 0, 8 * GIB),  # all there is
        ({"SLURM_MEM_PER_CPU": "100", "SLURM_CPUS_ON_NODE": "4"}, 0, 400 << 20),
        ({"SLURM_MEM_PER_CPU": "100", "SLURM_CPUS_ON_NODE": "1"}, 12, 1200 << 20),
        ({"SLURM_MEM_PER_NODE": "99999999"}, 0, 8 * GIB),
    ],
)
def test_memory_of_a_job_of_slurm_is_what_it_asked_for(
    tmp_path: Path, env: dict[str, str], own: int, found: int
) -> None:
    assert memory(8 * GIB, env | {"SLURMD_NODENAME": "n1"}, own, root=tmp_path) == found
    assert memory(8 * GIB, env, own, root=tmp_path) == 8 * GIB


def test_slot_of_htcondor_says_what_it_has(tmp_path: Path) -> None:
    (tmp_path / "ad").write_text('Machine = "n1"\nCpus = 2\nTotalCpus = 12\nMemory = 1024\nTotalMemory = 9000\n')
    env = {"_CONDOR_MACHINE_AD": "/ad"}
    assert (cores(8, env, tmp_path), memory(8 * GIB, env, root=tmp_path)) == (2, GIB)
    assert cores(8, {"_CONDOR_MACHINE_AD": "/nowhere"}, tmp_path) == 8
