"""How many cores and how much memory a container or a job may use on this machine.

All files are read below `root`, so that tests can provide others.
"""

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

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
    for directory in _groups(root, ""):
        if found := _QUOTA.fullmatch(_read(directory / "cpu.max")):  # else "max"
            yield _ratio(found[1], found[2])
    for directory in _groups(root, "cpu"):
        quota, period = _read(directory / "cpu.cfs_quota_us"), _read(directory / "cpu.cfs_period_us")
        if quota.isdecimal() and period.isdecimal():  # else -1
            yield _ratio(quota, period)


def _memory_limits(root: Path) -> Iterator[int]:
    for controller, name in (("", "memory.max"), ("memory", "memory.limit_in_bytes")):
        for directory in _groups(root, controller):
            text = _read(directory / name)
            if text.isdecimal() and 0 < int(text) < _UNLIMITED:
                yield int(text)


def _ratio(quota: str, period: str) -> float:
    return int(quota) / max(int(period), 1)


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """Yield the directories of this process's control group and its parents; controller "" means version 2."""
    own = _own_group(root, controller)
    mount = _mount(root, controller)
    if own is None or mount is None:
        return
    top, point = mount
    # In a container, the file system may start at the container's own group, or not show it at all.
    inside = os.path.relpath(own, top) if own == top or own.startswith(top.rstrip("/") + "/") else "."
    base = root / point.lstrip("/")
    path = (base / inside).absolute()
    while True:
        yield path
        if path == base.absolute():
            return
        path = path.parent


def _own_group(root: Path, controller: str) -> str | None:
    for line in _read(root / "proc/self/cgroup").splitlines():
        number, _, rest = line.partition(":")
        names, _, path = rest.partition(":")
        if (controller in names.split(",")) if controller else number == "0" and not names:
            return os.path.normpath(path)
    return None


def _mount(root: Path, controller: str) -> tuple[str, str] | None:
    """Return the group at the root of a hierarchy's file system, and its mount point."""
    for line in _read(root / "proc/self/mountinfo").splitlines():
        before, _, after = line.partition(" - ")
        fields, more = before.split(" "), after.split(" ")
        if len(fields) < 5 or len(more) < 3:
            continue
        if (more[0] == "cgroup" and controller in more[2].split(",")) if controller else more[0] == "cgroup2":
            return _unescaped(fields[3]), _unescaped(fields[4])
    return None


def _unescaped(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), text)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:  # it does not exist or may not be read, so it sets no limit
        return ""


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
    text = _read(root / path.lstrip("/")) if path.startswith("/") else ""
    return {name: int(value) for name, value in re.findall(r"^(Cpus|Memory) = (\d+)$", text, re.MULTILINE)}


def _number(text: str) -> int:
    return int(text) if text.isdecimal() else 0
