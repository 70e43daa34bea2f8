"""Wide tasks: how their ranks are started by an MPI launcher, and how the results of their parts are merged.

``srun`` and ``mpiexec`` start all ranks from the first node. Without these, each node worker starts the ranks of its
node with `ranks`, which suits programs that find each other by themselves. ``PILOTMTC_LAUNCHER`` in the environment of
the task or the pilot overrides the choice.
"""

import functools
import os
import re
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import msgspec

from pilotmtc.agent.node import ranks
from pilotmtc.agent.node.gpus import chosen
from pilotmtc.agent.node.interface import LaunchError
from pilotmtc.model import Result
from pilotmtc.resources.slots import Slot, core_list
from pilotmtc.states import Cause

SRUN, MPIEXEC, RANKS = "srun", "mpiexec", "ranks"
WISH = "PILOTMTC_LAUNCHER"
_OPEN_MPI, _HYDRA = "Open MPI", "Hydra"
_NO_PMIX = re.compile(rb"can ?not load PMIx library|MPI plugin type.*pmix", re.IGNORECASE)
_OUTPUT = 64 * 1024
_VERSION_S = 20.0
# The launcher's variables have the number of the rank; a file has a line with the slot of each rank.
_RANK = """\
r=${OMPI_COMM_WORLD_RANK:-${PMIX_RANK:-${PMI_RANK:-$SLURM_PROCID}}}; n=$((r + 1))
set -- "$(sed -n "${n}p" "$PILOTMTC_RANK_FILE")" "$@"; c=${1%% *}; g=${1#* }; shift
export PILOTMTC_RANK="$r" PILOTMTC_CORE_LIST="$c"
[ "$g" = - ] || export $g
[ -z "$PILOTMTC_BIND" ] || exec taskset -c "$c" "$@"
exec "$@"
"""


def way(env: Mapping[str, str]) -> str:
    """Return the MPI launcher for a task with these variables.

    Raises
    ------
    LaunchError
        If the launcher that they name does not exist.
    """
    path = env.get("PATH")
    wish = env.get(WISH, "")
    if wish == RANKS:
        return RANKS
    if wish in (SRUN, MPIEXEC):
        _program(wish, path, f"{WISH}={wish}, and ")
        return wish
    if wish:
        raise LaunchError(f"{WISH}={wish} is none of {SRUN}, {MPIEXEC}, {RANKS}")
    if _mpiexec(path):
        return MPIEXEC
    return SRUN if "SLURM_JOB_ID" in env and _which(SRUN, path=path) else RANKS


def command(
    how: str, argv: Sequence[str], slots: Sequence[Slot], *, here: str, first: int, bind: bool, file: Path,
    env: Mapping[str, str], gpus: Mapping[str, tuple[str, ...]] = {},
) -> tuple[list[str], dict[str, str]]:  # fmt: skip
    """Return the command that starts the ranks with `slots`, and the variables that it needs.

    Parameters
    ----------
    how, argv
        The launcher, and the task's own command.
    here
        Name of this node.
    first
        Number of the first rank.
    bind
        Whether to bind the ranks to their cores.
    file
        The file for the slots of the ranks, for `srun` and `mpiexec`.
    env
        The task's variables.
    gpus
        Names of this node's GPUs, by variable.
    """
    if how == RANKS:
        own = ";".join(f"{core_list(slot.cores)}:{_gpus(slot, gpus, here)}" for slot in slots)
        words = [sys.executable, "-I", "-S", ranks.__file__, str(first), own, "bind" if bind else "", *argv]
        return words, {}
    file.parent.mkdir(mode=0o700, exist_ok=True)
    file.write_text("".join(f"{core_list(slot.cores)} {_gpus(slot, gpus, here) or '-'}\n" for slot in slots))
    more = {"PILOTMTC_RANK_FILE": str(file), "PILOTMTC_BIND": "1" if bind else ""}
    rank = ["/bin/sh", "-c", _RANK, "rank", *argv]
    counts: dict[str, int] = {}
    for slot in slots:
        counts[slot.node] = counts.get(slot.node, 0) + 1
    path = env.get("PATH")
    program = _program(how, path)
    count = str(len(slots))
    if how == SRUN:
        hosts = file.with_suffix(".hosts")
        hosts.write_text("".join(f"{slot.node}\n" for slot in slots))
        more["SLURM_HOSTFILE"] = str(hosts)
        job = env.get("SLURM_JOB_ID", "")
        mpi = [] if "SLURM_MPI_TYPE" in env or not _wants_pmix(program) else ["--mpi=pmix"]
        return [
            # The nodes are in the file: newer versions of SLURM refuse an additional number of nodes.
            program, "--overlap", *mpi, f"--jobid={job}", f"--ntasks={count}", "--distribution=arbitrary",
            "--cpu-bind=none", "--mem=0", "--kill-on-bad-exit=1", "--export=ALL", *rank,
        ], more  # fmt: skip
    more["SLURM_OVERLAP"] = "1"  # otherwise its own srun would wait for the node workers to exit
    # Name this node localhost, so that SSH is not needed; except with MPICH, whose other nodes connect to that name.
    local = here if "SLURM_JOB_ID" not in env and (len(counts) == 1 or _kind(program) == _OPEN_MPI) else None
    hosts_word = ",".join(f"{'localhost' if name == local else name}:{n}" for name, n in counts.items())
    if _kind(program) == _OPEN_MPI:
        words = [program, "--host", hosts_word, "-n", count, "--bind-to", "none", "--oversubscribe"]
        for name in ("PILOTMTC_RANK_FILE", "PILOTMTC_BIND"):
            words += ["-x", name]
        for name in env:
            if name.startswith("PILOTMTC_") and name not in more:
                words += ["-x", name]
        return [*words, *rank], more
    return [program, "-hosts", hosts_word, "-n", count, "-bind-to", "none", *rank], more


def _gpus(slot: Slot, names: Mapping[str, tuple[str, ...]], here: str) -> str:
    """Return the assignments of variables with a rank's GPUs, separated by blanks."""
    if slot.gpus and slot.node != here:  # names of this node: UUIDs of other nodes are not known
        numbers = tuple(str(number) for number in range(1 + max(index for index, _ in slot.gpus)))
        names = {key: each if all(map(str.isdecimal, each)) else numbers for key, each in names.items()}
    own = chosen(names, [index for index, _ in slot.gpus]) if slot.gpus else {}
    return " ".join(f"{variable}={value}" for variable, value in own.items())


def _program(how: str, path: str | None, because: str = "") -> str:
    """Return the full path of an MPI launcher."""
    found = _which(how, path=path)
    program = _mpiexec(path) if how == MPIEXEC else found
    if program is None and found is not None:
        raise LaunchError(f"{because}{found} belongs to no MPI that is known here, such as Open MPI or MPICH")
    if program is None:
        raise LaunchError(f"{because}there is no {how} in PATH ({path})")
    return program


def _mpiexec(path: str | None) -> str | None:
    """Return the first mpiexec of a known MPI: OpenPBS and others have other programs with this name."""
    for directory in (os.defpath if path is None else path).split(os.pathsep):
        program = _which(MPIEXEC, path=directory or os.curdir)
        if program is not None and _kind(program):
            return program
    return None


def _which(program: str, *, path: str | None) -> str | None:
    import shutil  # only wide tasks need it

    return shutil.which(program, path=path)


@functools.lru_cache(maxsize=64)
def _kind(program: str) -> str:
    """Return the MPI to which an mpiexec belongs; empty if it is not a known one."""
    said = _said(program, "--version")
    if any(word in said for word in ("Open MPI", "OpenRTE", "PRRTE")):
        return _OPEN_MPI
    return _HYDRA if re.search(r"hydra|mpich|intel\(r\) mpi", said, re.IGNORECASE) else ""


@functools.lru_cache(maxsize=64)
def _wants_pmix(srun: str) -> bool:
    """Return whether SLURM has pmix but does not use it by default."""
    scontrol = Path(srun).with_name("scontrol")
    none = re.search(r"^MpiDefault\s*=\s*(none|\(null\))?$", _said(str(scontrol), "show", "config"), re.MULTILINE)
    return none is not None and re.search(r"\bpmix\b", _said(srun, "--mpi=list")) is not None


def remedy(stderr: bytes) -> str | None:
    """Return what to do if a launcher could not start the ranks and its message is known; otherwise nothing."""
    if _NO_PMIX.search(stderr):
        return (
            f"SLURM's pmix cannot be loaded here: {WISH}={RANKS} (or {MPIEXEC}) in the task's --env starts it without"
        )
    return None


def _said(*argv: str) -> str:
    import subprocess

    try:
        done = subprocess.run(
            argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_VERSION_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise LaunchError(f"{shlex.join(argv)}: {error}") from error
    return done.stdout + done.stderr


def slot_text(nodes: Iterable[Sequence[Slot]]) -> str:
    """Return the cores of each node as ``0-11;0-3``, or only once if they are all the same."""
    texts = [core_list(tuple(core for slot in slots for core in slot.cores)) for slots in nodes]
    return texts[0] if len(set(texts)) == 1 else ";".join(texts)


def merge(parts: Sequence[Result], node: str, slot: str) -> Result:
    """Merge the parts of a result from all nodes, which are in order: the worst end, and sums."""
    worst = max(parts, key=_badness)
    if worst.cause is Cause.EXIT and worst.value is None:  # of a call; only one part may have it
        said = [part for part in parts if part.value is not None and bool(part.exit_code) == bool(worst.exit_code)]
        if said:
            worst = msgspec.structs.replace(worst, value=said[0].value, value_text=said[0].value_text)
    out, err = b"".join(part.stdout for part in parts), b"".join(part.stderr for part in parts)
    return msgspec.structs.replace(
        worst,
        node=node,
        slot=slot,
        started_at=min(part.started_at for part in parts),
        elapsed_s=max(part.elapsed_s for part in parts),
        cpu_s=sum(part.cpu_s for part in parts),
        memory_bytes=max(part.memory_bytes for part in parts),
        stdout=_cut(out),
        stderr=_cut(err),
        stdout_bytes=sum(part.stdout_bytes for part in parts),
        stderr_bytes=sum(part.stderr_bytes for part in parts),
    )


def _badness(part: Result) -> tuple[bool, bool, float]:
    """Return how bad a part's end is. Parts that were stopped because of another one have its cause as well."""
    if part.cause is Cause.NODE_LOST:
        return True, True, 0.0
    bad = part.cause is not Cause.EXIT or part.exit_code != 0
    return bad, bad and not (part.cause is Cause.EXIT and part.signal is not None), -(part.started_at + part.elapsed_s)


def _cut(text: bytes) -> bytes:
    if len(text) <= _OUTPUT:
        return text
    half = _OUTPUT // 2
    return text[:half] + f"\n[pilotmtc: {len(text) - 2 * half} bytes left out here]\n".encode() + text[-half:]


def rank_file(directory: Path, task: int, attempt: int) -> Path:
    """Return the path of the file with the slots of an attempt's ranks."""
    return directory / "ranks" / f"{task}.{attempt}"


def remove_files(directory: Path, task: int, attempt: int) -> None:
    """Remove the files with the slots of an attempt's ranks."""
    file = rank_file(directory, task, attempt)
    for path in (file, file.with_suffix(".hosts")):
        path.unlink(missing_ok=True)
