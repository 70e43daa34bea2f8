"""Servers that Celery's messages go through: each of its own, in the job's directory, for this machine alone."""

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from .workload import Job

_RABBITMQ = "/usr/lib/rabbitmq/bin/rabbitmq-server"  # Debian's own one of the PATH runs as another user
_START_S = 90.0


def redis_program() -> str | None:
    """Return a program that is Redis' server: Debian's redis-tools has it as redis-check-rdb, and starts nothing."""
    return shutil.which("redis-server") or shutil.which("redis-check-rdb")


@contextlib.contextmanager
def redis(job: Job) -> Iterator[tuple[str, str]]:
    """Give the addresses of broker and results."""
    at = job.directory / "redis.sock"
    words = f"--port 0 --unixsocket {at} --dir {job.directory} --save".split()
    # Which of its programs it is, Redis' server sees by the name that it is started with.
    with _running(["redis-server", *words, ""], job, redis_program()):
        url = f"redis+socket://{at}"
        yield url, url


@contextlib.contextmanager
def rabbitmq(job: Job) -> Iterator[tuple[str, str]]:
    """Give the addresses of broker and results."""
    ports, place = free_ports(3), job.directory / "rabbitmq"
    place.mkdir(exist_ok=True)
    variables = {
        "RABBITMQ_NODENAME": f"study{ports[0]}@localhost", "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODE_PORT": str(ports[0]), "RABBITMQ_DIST_PORT": str(ports[1]), "ERL_EPMD_PORT": str(ports[2]),
        "ERL_EPMD_ADDRESS": "127.0.0.1", "RABBITMQ_MNESIA_BASE": f"{place}/mnesia", "RABBITMQ_LOG_BASE": f"{place}/log",
        "RABBITMQ_CONFIG_FILE": f"{place}/none", "RABBITMQ_CONF_ENV_FILE": f"{place}/none",
        "RABBITMQ_ENABLED_PLUGINS_FILE": f"{place}/plugins", "RABBITMQ_PID_FILE": f"{place}/pid",
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
    }  # fmt: skip
    with _running([_RABBITMQ], job, None, variables):
        wait_for(ports[0])
        yield f"amqp://guest:guest@127.0.0.1:{ports[0]}//", "rpc://"
    # Erlang's own daemon stays otherwise.
    subprocess.run(["epmd", "-kill"], env=os.environ | variables, capture_output=True, timeout=60, check=False)


@contextlib.contextmanager
def _running(argv: list[str], job: Job, program: str | None, variables: dict[str, str] | None = None) -> Iterator[None]:
    process = subprocess.Popen(
        argv, executable=program, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env=os.environ | (variables or {}), cwd=job.directory,
    )  # fmt: skip
    try:
        yield
    finally:
        process.terminate()
        process.wait(60)


def free_ports(number: int) -> list[int]:
    """Return ports of this machine that nobody uses now."""
    with contextlib.ExitStack() as open_ones:
        taken = [open_ones.enter_context(socket.socket()) for _ in range(number)]
        for each in taken:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in taken]


def wait_for(port: int) -> None:
    """Wait until somebody listens there. It is not connected to: a server may take that for a client that went away."""
    until, mark = time.monotonic() + _START_S, f":{port:04X} 00000000:0000 0A "
    while mark not in Path("/proc/net/tcp").read_text():
        if time.monotonic() > until:
            raise TimeoutError(f"nobody listened on port {port} within {_START_S:g} s")
        time.sleep(0.05)
