"""How many cores and how much memory a container or a job may use on this machine.

All files are read below `root`, so that tests can provide others.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from pilotmtc.system.control_groups import own_and_above, read

_QUOTA = re.compile(r"(\d+)\s+(\d+)")
_MIB = 1 << 20
_UNLIMITED = 1 << 60  # cgroup v1 shows the largest number of pages if there is no limit
_ROOT = Path("/")


def cores(there: int, env: Mapping[str, str], root: Path = _ROOT) -> int:
    """Return how many cores this process may use, at least one; its affinity has `there` cores.

    A quota is rounded down to whole CPUs: with one core more, every task would be slowed down.
    """
    return max(1, min([there, *map(int, _quotas(root)), *_job_cores(env, root)]))


def memory(there: int, env: Mapping[str, str], cores: int = 0, root: Path = _ROOT) -> int:
    """Return how many bytes of memory this process may use; the machine has `there` bytes.

    Parameters
    ----------
    cores
        Number of the job's cores on this node, for amounts per core; 0: read it from the job's variables.
    """
    return min([there, *_memory_limits(root), *_job_memory(env, cores, root)])


# -- control groups --------------------------------------------------------------------------------------------


def _quotas(root: Path) -> Iterator[float]:
    """Yield the quota of CPUs of each control group that this process is in."""
    for directory in own_and_above("", root):
        if found := _QUOTA.fullmatch(read(directory / "cpu.max")):  # else "max"
            yield _ratio(found[1], found[2])
    for directory in own_and_above("cpu", root):
        quota, period = read(directory / "cpu.cfs_quota_us"), read(directory / "cpu.cfs_period_us")
        if quota.isdecimal() and period.isdecimal():  # else -1
            yield _ratio(quota, period)


def _memory_limits(root: Path) -> Iterator[int]:
    for controller, name in (("", "memory.max"), ("memory", "memory.limit_in_bytes")):
        for directory in own_and_above(controller, root):
            text = read(directory / name)
            if text.isdecimal() and 0 < int(text) < _UNLIMITED:
                yield int(text)


def _ratio(quota: str, period: str) -> float:
    return int(quota) / max(int(period), 1)


# -- schedulers' jobs ------------------------------------------------------------------------------------------


def _job_cores(env: Mapping[str, str], root: Path) -> Iterator[int]:
    """Yield the number of cores that a job has on this node, from its scheduler's variables."""
    names = []
    if "SLURMD_NODENAME" in env:  # otherwise they are salloc's, about other nodes
        names.append("SLURM_CPUS_ON_NODE")
    if "PBS_ENVIRONMENT" in env:
        names += ["NCPUS", "PBS_NUM_PPN"]  # of OpenPBS; of Torque
    yield from (number for name in names if (number := _number(env.get(name, ""))))
    if cpus := _machine_ad(env, root).get("Cpus"):
        yield cpus


def _job_memory(env: Mapping[str, str], cores: int, root: Path) -> Iterator[int]:
    if "SLURMD_NODENAME" in env:
        if whole := _number(env.get("SLURM_MEM_PER_NODE", "")):
            yield whole * _MIB
        elif each := _number(env.get("SLURM_MEM_PER_CPU", "")):
            yield each * _MIB * (cores or _number(env.get("SLURM_CPUS_ON_NODE", "")) or 1)
    if size := _machine_ad(env, root).get("Memory"):
        yield size * _MIB


def _machine_ad(env: Mapping[str, str], root: Path) -> dict[str, int]:
    """Return the numbers in the description of HTCondor's slot."""
    path = env.get("_CONDOR_MACHINE_AD", "")
    text = read(root / path.lstrip("/")) if path.startswith("/") else ""
    return {name: int(value) for name, value in re.findall(r"^(Cpus|Memory) = (\d+)$", text, re.MULTILINE)}


def _number(text: str) -> int:
    return int(text) if text.isdecimal() else 0
