"""Connections that break, stall and come back."""

import itertools
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from pilotmtc.errors import ChannelClosed, ConnectError, ConnectPostponed
from pilotmtc.protocol.client.maintenance import GetStore
from pilotmtc.store.client.client import StoreClient
from pilotmtc.store.client.connect import connect_store
from pilotmtc.transport.ssh import link
from pilotmtc.transport.ssh.dial import dial
from pilotmtc.transport.ssh.link import SshLink
from pilotmtc.transport.ssh.url import parse_url
from tests.integration.test_ssh import Place, places
from tests.lab.slow import Proxy
from tests.lab.sshd import Client, Sshd, client, knows, make_client, sshd
from tests.support import patience_s, wait_until

__all__ = ["client", "places", "sshd"]  # fixtures


@pytest.fixture
def proxy(sshd: Sshd, client: Client) -> Iterator[Proxy]:
    with Proxy(sshd.port) as proxy:
        words = sshd.known_hosts_line.split(" ", 1)[1]
        client.known_hosts.write_text(f"{sshd.known_hosts_line}[127.0.0.1]:{proxy.port} {words}")
        yield proxy


@pytest.fixture
def store(sshd: Sshd, client: Client, places: dict[str, Place]) -> Iterator[StoreClient]:
    with connect_store(client.url(sshd, places["mtc-store"].url_path), patience_s=60) as store:
        yield store


def test_killed_connection_is_opened_again_in_the_middle_of_traffic(sshd: Sshd, store: StoreClient) -> None:
    stop = threading.Event()
    answered = itertools.count()
    failed: list[BaseException] = []

    def ask() -> None:
        while not stop.is_set():
            try:
                store.call(GetStore())
            except ConnectError as error:
                failed.append(error)
                return
            next(answered)

    asker = threading.Thread(target=ask)
    asker.start()
    for _ in range(3):
        wait_until(lambda: store.connected, 30)
        before = sshd.logins
        sshd.cut()
        wait_until(lambda before=before: sshd.logins > before and store.connected, 30)  # type: ignore[misc]
    stop.set()
    asker.join(30)
    assert failed == []
    assert next(answered) > 0


def test_server_that_is_away_is_not_asked_all_the_time(tmp_path: Path) -> None:
    with Sshd() as server:
        client = make_client(tmp_path / "client", server)
        link = SshLink(parse_url(client.url(server)))
        channel = link.open("exec cat")
        server.stop()
        assert channel.read(1) == b""
        channel.close()
        with pytest.raises(ConnectError, match="cannot connect"):
            link.connect()
        server.restart()
        tried = server.logins_tried
        for _ in range(20):
            with pytest.raises(ConnectError, match="cannot connect"):
                link.connect()
        assert server.logins_tried == tried
        link.close()


@pytest.mark.parametrize("words", ["Not allowed at this time", "Exceeded MaxStartups"])
def test_server_that_refuses_for_a_while_is_left_alone_and_quoted(words: str, sshd: Sshd, client: Client) -> None:
    """As OpenSSH does: those words instead of its greeting."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        link = SshLink(replace(parse_url(client.url(sshd)), port=listener.getsockname()[1]))

        def refuse() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.sendall(f"{words}\r\n".encode())

        server = threading.Thread(target=refuse)
        server.start()
        for _ in range(3):
            with pytest.raises(ConnectPostponed, match=f"takes no connections from here for now.*{words}"):
                link.connect()
        server.join(30)
        listener.settimeout(0)
        with pytest.raises(BlockingIOError):  # there was no other connection
            listener.accept()
        link.close()


def test_penalty_of_a_real_server_is_told(tmp_path: Path) -> None:
    """OpenSSH 9.8 and later; older ones have no penalties, and refuse each login alone."""
    with Sshd(penalties=True) as server:
        client = make_client(tmp_path / "client", server, allowed=False)
        url = parse_url(client.url(server, options="identity=" + str(client.key)))
        seen: list[type[ConnectError]] = []

        def knock() -> bool:
            link = SshLink(url, ask=lambda *_: [""])
            with pytest.raises(ConnectError) as refused:
                link.connect()
            link.close()
            seen.append(refused.type)
            return not knows("PerSourcePenalties yes") or refused.type is ConnectPostponed

        wait_until(knock, 60)
        assert seen[0] is not ConnectPostponed


def test_store_is_reached_again_when_the_server_is_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "_BACKOFF_S", (0.1, 0.5))
    with Sshd() as server:
        client = make_client(tmp_path / "client", server)
        place = Place(server, "mtc-store", f"back-{os.getpid()}")
        with connect_store(client.url(server, place.url_path), patience_s=60) as store:
            store.call(GetStore())
            server.stop()
            wait_until(lambda: not store.connected)
            future = store.send(GetStore())
            server.restart()
            assert future.result(30).clients == 1
        place.remove()


def test_stalled_connection_is_given_up(sshd: Sshd, client: Client, proxy: Proxy) -> None:
    link = SshLink(replace(parse_url(client.url(sshd)), port=proxy.port), alive_s=0.2, dead_s=0.5)
    channel = link.open("exec cat")
    channel.write(b"x")
    assert channel.read(1) == b"x"
    proxy.stall()
    assert channel.read(1) == b""
    assert "has ended" in channel.last_words()
    with pytest.raises(ChannelClosed):
        channel.write(b"y" * 100)
    channel.close()
    proxy.cut()
    proxy.resume()
    channel = link.open("echo again")
    assert channel.read(10) == b"again\n"
    channel.close()
    link.close()


def test_writer_on_a_stalled_connection_is_let_go(sshd: Sshd, client: Client, proxy: Proxy) -> None:
    link = SshLink(replace(parse_url(client.url(sshd)), port=proxy.port), alive_s=0.2, dead_s=0.5)
    channel = link.open("exec cat > /dev/null")
    proxy.stall()
    with pytest.raises(ChannelClosed):
        channel.write(bytes(64 << 20))
    channel.close()
    link.close()


def test_slow_connection_is_not_given_up_while_anything_gets_through(sshd: Sshd, client: Client, proxy: Proxy) -> None:
    link = SshLink(replace(parse_url(client.url(sshd)), port=proxy.port), alive_s=0.2, dead_s=3.0)
    proxy.rate = 50_000  # before it connects: else its kernel may take in all at once
    channel = link.open("wc -c")
    size = 400_000  # 8 seconds, in which the answer to no question comes back
    moved, passed = channel.moved(), proxy.passed_bytes
    for _ in range(size // 10_000):
        channel.write(bytes(10_000))
    wait_until(lambda: proxy.passed_bytes > passed + 300_000)
    assert channel.moved() > moved
    proxy.rate = 0
    channel._channel.shutdown_write()  # type: ignore[attr-defined]
    assert int(channel.read(100)) == size
    channel.close()
    link.close()


def test_the_kernel_has_no_limit_of_its_own_for_slow_readers() -> None:
    """With one, it ends each connection whose reader never has much room, after that time: 45 s it was, at 20 kB/s."""
    with socket.create_server(("127.0.0.1", 0)) as server, dial("127.0.0.1", server.getsockname()[1], 10.0) as sock:
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 0


def test_connecting_through_a_stalled_way_ends_with_close(sshd: Sshd, client: Client, proxy: Proxy) -> None:
    link = SshLink(replace(parse_url(client.url(sshd)), port=proxy.port))
    proxy.stall()
    errors: list[BaseException] = []

    def connect() -> None:
        try:
            link.connect()
        except (ConnectError, ChannelClosed) as error:
            errors.append(error)

    connecting = threading.Thread(target=connect)
    connecting.start()
    wait_until(proxy.connections)  # it waits for the server's greeting now
    link.close()
    connecting.join(10)
    assert len(errors) == 1


def test_cut_in_every_part_of_a_login_is_no_refusal(sshd: Sshd, client: Client, proxy: Proxy) -> None:
    for pause_s in (0.0, 0.01, 0.02, 0.04, 0.06, 0.08):
        link = SshLink(replace(parse_url(client.url(sshd)), port=proxy.port))
        cutter = threading.Timer(pause_s, proxy.cut)
        cutter.start()
        errors: list[ConnectError] = []
        try:
            link.connect()
        except ConnectError as error:
            errors.append(error)
        assert [error for error in errors if not error.transient] == []
        cutter.join()
        link.close()


@pytest.mark.parametrize("transport", ["paramiko", "openssh"])
def test_run_over_connections_that_are_killed_loses_and_repeats_nothing(
    transport: str, sshd: Sshd, client: Client, places: dict[str, Place]
) -> None:
    url = client.url(sshd, places["mtc-store"].url_path, options=f"transport={transport}")
    tasks = [str(number) for number in range(150)]
    gate = client.home / "gate"
    line = f"test {{}} -lt 50 || until test -e {gate}; do sleep 0.05; done; echo {{}}"
    out = client.home / "out"
    with out.open("wb") as stdout:
        run = subprocess.Popen(
            [sys.executable, "-m", "pilotmtc", "--store", url, "run", line, ":::", *tasks],
            stdin=subprocess.DEVNULL, stdout=stdout, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
    wait_until(lambda: out.stat().st_size, 60)
    for _ in range(2):
        # The run itself has one connection, its pilot another.
        wait_until(lambda: len(sshd.connections()) >= 2 or run.poll() is not None, 60)
        assert run.poll() is None
        sshd.cut()
    gate.touch()
    _, err = run.communicate(timeout=patience_s(90))
    assert run.returncode == 0, err
    assert sorted(out.read_text().split(), key=int) == tasks
