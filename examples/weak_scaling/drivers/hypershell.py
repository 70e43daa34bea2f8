"""HyperShell: a server with a database, and a client that runs commands. Tasks that wait for others are its groups."""

import os
import secrets
import shlex
import subprocess
from collections.abc import Iterable

from ..brokers import free_ports, wait_for
from ..workload import Job, Ran, Task, command, read
from . import growing


def run(job: Job) -> list[Ran]:
    # One task at a time, and no pauses: its defaults are for longer tasks.
    (port,), key, level = free_ports(1), secrets.token_hex(16), levels(job.tasks)
    shared = ["--no-tls", "-p", str(port), "-k", key, "-b", "1", "-w", "1"]
    kinds = sorted({(level[task.number], task.cores) for task in job.tasks})
    lines = {
        kind: "".join(
            f"{shlex.join(command(task))}\n" for task in job.tasks if (level[task.number], task.cores) == kind
        )
        for kind in kinds
    }
    os.environ["HYPERSHELL_SITE"] = str(job.directory / "hypershell")  # root's is that of all users
    source = ["--restart"]
    if len(kinds) > 1 and not job.again:
        for group, cores in kinds:
            words = ["hs", "submit", "--initdb", "-f", "-", "-g", str(group), "-c", str(cores)]
            subprocess.run(words, input=lines[group, cores], text=True, check=True)
    elif not job.again:
        (job.directory / "tasks").write_text(lines[kinds[0]])
        source = [str(job.directory / "tasks"), "--initdb"]

    def client(cores: int) -> "subprocess.Popen[bytes]":
        words = ["-N", str(cores), "-C", str(cores), "-o", str(job.directory / f"{len(clients)}.out")]
        return subprocess.Popen(["hs", "client", *shared, *words])

    clients: list[subprocess.Popen[bytes]] = []
    with subprocess.Popen(["hs", "server", *source, *shared, "-Q", "1", "-r", str(job.retries)]) as server:
        wait_for(port)
        clients.append(client(job.cores))
        with growing(job, lambda cores: clients.append(client(cores))):
            server.wait()
    for each in clients:
        each.wait(60)
    return [ran for file in job.directory.glob("*.out") for ran in read(file.read_text())]


def levels(tasks: Iterable[Task]) -> dict[int, int]:
    """Return how many tasks must end one after the other before each; those that it waits for come before it."""
    found: dict[int, int] = {}
    for task in tasks:
        found[task.number] = 1 + max((found[number] for number in task.after), default=-1)
    return found
