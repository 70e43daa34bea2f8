"""Strangers open connections to the port of a pool's agent: that ends no pilot, and keeps no worker out."""

import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pilotmtc.agent.crews.contact import Contact
from pilotmtc.agent.crews.start_workers import worker_command
from pilotmtc.states import TaskState
from tests.integration.agent_support import Site, running_site, shell
from tests.integration.pool_support import PoolPilot, running_pool
from tests.support import wait_until

FEW = 1500  # descriptors that the agent may have in all


@pytest.fixture
def site(tmp_path: Path, surroundings: Path) -> Iterator[Site]:
    with running_site(tmp_path) as made:
        yield made


def address_of(pool: PoolPilot) -> tuple[str, int]:
    """Return where the agent of a pool listens."""
    host, _, port = Contact.read(pool.directory / "contact").address.removeprefix("tcp://").rpartition(":")
    return host, int(port)


@contextmanager
def flood(address: tuple[str, int], at_once: int, words: bytes) -> Iterator[list[int]]:
    """Open connections without end, of which `at_once` are kept; give how many there have been."""
    over = threading.Event()
    opened = [0]

    def run() -> None:
        kept: list[socket.socket] = []
        while not over.is_set():
            try:
                kept.append(socket.create_connection(address, 5.0))
                kept[-1].send(words)
            except OSError:  # sent away meanwhile
                continue
            opened[0] += 1
            if len(kept) > at_once:
                kept.pop(0).close()
        for one in kept:
            one.close()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield opened
    finally:
        over.set()
        thread.join()


@pytest.mark.parametrize("words", [b"", b"GET / HTTP/1.0\r\n\r\n", b"\xff\0\0\0\0\0\0\0\1\x7f\3"])
def test_strangers_neither_end_a_pilot_nor_keep_workers_out(site: Site, words: bytes) -> None:
    before = ["/bin/sh", "-c", f'ulimit -n {FEW}; exec "$@"', "sh"]
    with running_pool(site, 1, 2, before=before) as pool:
        pool.wait_nodes(1)
        agent = pool.agent()
        with flood(address_of(pool), 2 * FEW, words) as opened:
            wait_until(lambda: opened[0] > 2 * FEW, 60.0)
            tasks = site.submit(shell("echo $PILOTMTC_TASK_ID"), copies=20)
            pool.wait_tasks({TaskState.DONE: 20})
            assert [site.output(task).stdout for task in tasks] == [f"{task}\n".encode() for task in tasks]
            late = subprocess.Popen(worker_command(pool.directory / "contact", "late"))
            try:
                pool.wait_nodes(2)
            finally:
                site.close_pilot(pool.pilot)
                late.wait(60.0)
            assert late.returncode == 0
        assert pool.agent() == agent
        assert "the agent is gone" not in pool.log()
        assert pool.log().count("too many connections of strangers") <= 1
