"""Write the description of a job for ``condor_submit``, so that no user's value is interpreted in it."""

import posixpath
import re

from pilotmtc.errors import UsageError
from pilotmtc.scheduler_words import line
from pilotmtc_adaptors._dialect import JobRequest
from pilotmtc_adaptors._script import job_script

_SCRIPT_BYTES = 100_000  # Linux takes 128 KiB in one argument
_PLAIN = frozenset(
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 !#%&()*+,-./:;<=>?@[]^_{|}~"  # in a shell's '...'
)
_NAME = re.compile(r"[A-Za-z0-9_.@+-]+", re.ASCII)
_HOST = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*", re.ASCII)
_MIB = 1 << 20

# Holds by a user (1), at submission (15), and while files arrive (16) end by themselves or by that user. Any other hold
# means that the job can never run, so it is removed, and its reason stays.
_STUCK = "(JobStatus == 5 && HoldReasonCode =!= 1 && HoldReasonCode =!= 15 && HoldReasonCode =!= 16)"


def submit_description(request: JobRequest, *, parallel: bool) -> str:
    """Return the description of a cluster with one job for each node; if `parallel`, of one job on all of them.

    Each node runs the same program, with its number in ``_CONDOR_PROCNO`` and how many there are in ``_CONDOR_NPROCS``.
    """
    if request.exclusive:
        raise UsageError(
            "HTCondor gives a job the cores that it asks for, never a whole host: say how many cores a node has"
        )
    lines = [
        f"universe = {'parallel' if parallel else 'vanilla'}",
        "executable = /bin/sh",
        "transfer_executable = False",
        f"arguments = {_arguments(request)}",
        "notification = Never",
        *_files(request, "$(Node)" if parallel else "$(Process)"),
    ]
    if request.name:
        if not _NAME.fullmatch(request.name):
            raise UsageError(f"job name {request.name!r}: use letters, digits and '_', '.', '@', '+' or '-'")
        lines.append(f"batch_name = {request.name}")
    if request.account:
        if not _NAME.fullmatch(request.account):
            raise UsageError(f"account {request.account!r}: give the plain name of an accounting group")
        lines.append(f"accounting_group = {request.account}")
    if request.cores_per_node:
        lines.append(f"request_cpus = {request.cores_per_node}")
    if request.gpus_per_node:
        lines.append(f"request_gpus = {request.gpus_per_node}")
    if request.memory_per_node_bytes:
        lines.append(f"request_memory = {-(-request.memory_per_node_bytes // _MIB)}")
    if requirements := _requirements(request):
        lines.append(f"requirements = {requirements}")
    over = f" || (JobStatus == 2 && time() - JobCurrentStartDate > {request.walltime_s})" if request.walltime_s else ""
    lines.append(f"periodic_remove = {_STUCK}{over}")
    if parallel:
        lines += [f"machine_count = {request.nodes}", "queue"]
    else:
        lines += [f'environment = "_CONDOR_PROCNO=$(Process) _CONDOR_NPROCS={request.nodes}"', f"queue {request.nodes}"]
    return "\n".join(lines) + "\n"


def _arguments(request: JobRequest) -> str:
    """Return the script as arguments of ``sh``, in HTCondor's newer way of quoting.

    A description cannot hold line breaks, and '$' has several meanings in it, some of them only on the execution host.
    So the script has octal numbers for all characters that are not plain, and the shell itself reads them.
    """
    # HTCondor chooses the directory: without a shared file system it is a scratch directory.
    here = JobRequest(
        executable=request.executable,
        arguments=request.arguments,
        environment=request.environment,
        pre_exec=request.pre_exec,
        walltime_s=request.walltime_s,
        signal_s=request.signal_s,
    )
    script = job_script(here, warn=True)
    encoded = "".join(
        letter if letter in _PLAIN else "".join(f"\\0{byte:03o}" for byte in letter.encode("utf-8", "surrogateescape"))
        for letter in script
    )
    if len(encoded) > _SCRIPT_BYTES:
        raise UsageError(
            f"the job's command and environment are {len(encoded)} bytes long, and HTCondor takes {_SCRIPT_BYTES}: "
            f"put them into a file"
        )
    words = ("-c", f"eval \"`printf %b '{encoded}'`\"")
    quoted = " ".join("'" + each.replace("'", "''") + "'" for each in words)
    return '"' + quoted.replace('"', '""') + '"'


def _files(request: JobRequest, number: str) -> list[str]:
    lines = []
    if request.working_directory:
        lines.append(f"initialdir = {_path('working directory', request.working_directory)}")
    if request.input:
        lines.append(f"input = {_path('input', request.input)}")
    # No job may overwrite the output of another.
    mark = "" if request.nodes == 1 else f".{number}"
    for what, path in (("output", request.output), ("error", request.error)):
        if path:
            lines.append(f"{what} = {_path(what, path)}{mark}")
    come, go, renamed = _transfers(request.file_transfer)
    if not come and not go:
        return [*lines, "should_transfer_files = IF_NEEDED", "when_to_transfer_output = ON_EXIT"]
    lines += ["should_transfer_files = YES", "when_to_transfer_output = ON_EXIT"]
    if come:
        lines.append(f"transfer_input_files = {','.join(come)}")
    if go:
        lines.append(f"transfer_output_files = {','.join(go)}")
    if renamed:
        lines.append(f'transfer_output_remaps = "{";".join(renamed)}"')
    return lines


def _transfers(directives: tuple[str, ...]) -> tuple[list[str], list[str], list[str]]:
    """Return the files that go to the job, those that come back, and their new names."""
    come, go, renamed = [], [], []
    for each in directives:
        match = re.fullmatch(r"\s*(\S.*?)\s*([<>])\s*(\S.*?)\s*", each)
        if match is None:
            raise UsageError(f"file transfer {each!r}: write 'here > there' or 'here < there', for one file each")
        here, there = _path("file", match[1]), _path("file", match[3])
        for path in (here, there):
            if any(letter in path for letter in ",;=\"'<>"):
                raise UsageError(f"file transfer {each!r}: , ; = \" ' < and > have other meanings for HTCondor")
        if match[2] == ">":
            if posixpath.basename(there) != there or there != posixpath.basename(here):
                raise UsageError(
                    f"file transfer {each!r}: HTCondor puts {here!r} into the job's directory under the same name"
                )
            come.append(here)
        else:
            go.append(there)
            if here != posixpath.basename(there):
                renamed.append(f"{posixpath.basename(there)}={here}")
    return come, go, renamed


def _requirements(request: JobRequest) -> str:
    found = [f"({line('constraint', request.constraint)})"] if request.constraint else []
    for host in request.candidate_hosts:
        if not _HOST.fullmatch(host):
            raise UsageError(f"candidate host {host!r}: give a host's plain name")
    if request.candidate_hosts:
        found.append("(" + " || ".join(f'Machine == "{host}"' for host in request.candidate_hosts) + ")")
    return " && ".join(found)


def _path(what: str, path: str) -> str:
    if "$" in path or path.endswith("\\") or path != path.strip():
        raise UsageError(f"{what} {path!r}: HTCondor takes no path with '$', a '\\' at the end, or blanks around it")
    return line(what, path)
