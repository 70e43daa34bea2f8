"""Channels to a real OpenSSH server, and a store behind one."""

import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pilotmtc.errors import ChannelClosed, ConfigError, ProtocolError
from pilotmtc.protocol.client.maintenance import GetStore
from pilotmtc.protocol.frames import MAGIC, PROTOCOL, Greeting, append_frame
from pilotmtc.store.client.connect import connect_store
from pilotmtc.transport.link import CommandChannel
from pilotmtc.transport.ssh.link import SshLink
from pilotmtc.transport.ssh.url import parse_url, quote_word, remote_command
from tests.lab.machine import ROOT
from tests.lab.sshd import Client, Sshd, client, sshd
from tests.support import wait_until

__all__ = ["client", "sshd"]  # fixtures

USERS = ["mtc-store", "mtc-dash", "mtc-tcsh", "mtc-fish", "mtc-noisy"] if ROOT else ["mtc-store"]
ODD = 'it\'s a "test" $HOME `x` \\ !x *?[a]{b,c} ~ #;&|<>()^=% ü-.db'


@pytest.fixture
def link(sshd: Sshd, client: Client) -> Iterator[SshLink]:
    link = SshLink(parse_url(client.url(sshd)))
    yield link
    link.close()


def read_all(channel: CommandChannel) -> bytes:
    said = b""
    while data := channel.read(65536):
        said += data
    return said


def test_bytes_of_every_kind_go_there_and_back(link: SshLink) -> None:
    sent = bytes(range(256)) * 8192
    channel = link.open(f"head -c {len(sent)}")
    writer = threading.Thread(target=channel.write, args=(sent,))
    writer.start()
    assert read_all(channel) == sent
    writer.join()
    assert channel.exit_status(5) == 0
    channel.close()


def test_flood_on_stderr_stops_nothing_and_its_end_is_kept(link: SshLink) -> None:
    channel = link.open("head -c 40000000 /dev/zero >&2; echo the last words >&2; echo out; exit 3")
    assert read_all(channel) == b"out\n"
    assert channel.exit_status(5) == 3
    assert channel.last_words().endswith("the last words")
    channel.close()


def test_last_words_are_all_there_at_the_end_of_the_stream(link: SshLink) -> None:
    # Without waiting for them some of a hundred are missing.
    said = []
    for number in range(100):
        channel = link.open(f"echo word {number} >&2; exit 1")
        assert read_all(channel) == b""
        said.append(channel.last_words())
        channel.close()
    assert said == [f"word {number}" for number in range(100)]


def test_close_wakes_a_waiting_reader(link: SshLink) -> None:
    channel = link.open("exec cat")
    found: list[bytes] = []
    reader = threading.Thread(target=lambda: found.append(channel.read(1)))
    reader.start()
    channel.close()
    reader.join(10)
    assert found == [b""]
    with pytest.raises(ChannelClosed):
        channel.write(b"x")
    channel.close()


def test_channels_of_many_threads_share_one_connection(sshd: Sshd, link: SshLink) -> None:
    before = sshd.logins
    answers: list[bytes] = []

    def converse(number: int) -> None:
        channel = link.open("exec cat")
        channel.write(b"%d" % number)
        answers.append(channel.read(10))
        channel.close()

    threads = [threading.Thread(target=converse, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(answers) == [b"%d" % number for number in range(8)]
    assert sshd.logins == before + 1


def test_closed_link_opens_nothing_any_more(link: SshLink) -> None:
    link.connect()
    link.close()
    link.close()
    with pytest.raises(ChannelClosed):
        link.open("true")


@pytest.mark.parametrize("user", USERS)
def test_login_shells_of_all_kinds_read_the_same_words(user: str, sshd: Sshd, client: Client) -> None:
    link = SshLink(parse_url(client.url(sshd, user=user)))
    channel = link.open(remote_command("/usr/bin/printf", "%s\\n", ODD, "", "~/x y"))
    expected = f"{ODD}\n\n{sshd.accounts[user].home}/x y\n"
    assert read_all(channel).decode().endswith(expected)
    channel.close()
    link.close()


class Place:
    """A directory of an account on the store's side."""

    def __init__(self, sshd: Sshd, user: str, name: str) -> None:
        home = sshd.accounts[user].home
        self.path = home / name
        self.path.mkdir(mode=0o700)
        shutil.chown(self.path, home.owner())
        self.url_path = f"/~/{name}/a%20store.db"

    def remove(self) -> None:
        def server_is_gone() -> bool:
            try:
                pid = (self.path / "a store.db.lock").read_text().split()[0]
                return not Path("/proc", pid).exists()
            except (OSError, IndexError):
                return True

        wait_until(server_is_gone)
        shutil.rmtree(self.path)


@pytest.fixture
def places(sshd: Sshd, tmp_path: Path) -> Iterator[dict[str, Place]]:
    name = f"{tmp_path.parent.name}-{os.getpid()}"
    found = {user: Place(sshd, user, name) for user in USERS}
    yield found
    for place in found.values():
        place.remove()


@pytest.mark.parametrize("user", USERS)
def test_store_on_another_host_answers(user: str, sshd: Sshd, client: Client, places: dict[str, Place]) -> None:
    with connect_store(client.url(sshd, places[user].url_path, user=user), patience_s=20) as store:
        info = store.call(GetStore())
    assert info.path == str(places[user].path / "a store.db")
    assert (places[user].path / "a store.db").owner() == sshd.accounts[user].name


def test_clients_of_one_process_share_one_login(sshd: Sshd, client: Client, places: dict[str, Place]) -> None:
    url = client.url(sshd, places["mtc-store"].url_path)
    before = sshd.logins
    with connect_store(url) as one, connect_store(url) as other:
        assert one.call(GetStore()).pid == other.call(GetStore()).pid
        one.close()
        assert other.call(GetStore()).clients == 1
    assert sshd.logins == before + 1
    wait_until(lambda: not sshd.connections())


@pytest.mark.parametrize("user", USERS)
def test_missing_pilotmtc_is_named_at_once(user: str, sshd: Sshd, client: Client) -> None:
    url = client.url(sshd, user=user, options="command=no-such-pilotmtc")
    with (
        connect_store(url, patience_s=None) as store,
        pytest.raises(ConfigError, match=r"(?s)does not find no-such-pilotmtc.*PATH.*\?command="),
    ):
        store.call(GetStore())


def test_broken_pilotmtc_is_quoted(sshd: Sshd, client: Client) -> None:
    url = client.url(sshd, options="command=echo%20no%20Python%20here%20%3E%262;%20exit%201;")
    with (
        connect_store(url, patience_s=None) as store,
        pytest.raises(ConfigError, match=r"(?s)ended with 1: no Python here"),
    ):
        store.call(GetStore())


def test_other_protocol_is_named(sshd: Sshd, client: Client) -> None:
    answer = bytearray(MAGIC)
    append_frame(answer, Greeting(PROTOCOL + 1, "9.9.9"))
    (sshd.bin / "hello").write_bytes(answer)
    program = sshd.bin / "newer"
    program.write_text(f"#!/bin/sh\ncat {sshd.bin}/hello -\n")
    program.chmod(0o755)
    with (
        connect_store(client.url(sshd, options=f"command={program}"), patience_s=None) as store,
        pytest.raises(ProtocolError, match=r"9\.9\.9 with protocol .*same version"),
    ):
        store.call(GetStore())


def test_command_may_be_a_shell_line(sshd: Sshd, client: Client, places: dict[str, Place]) -> None:
    options = f"command=cd%20/%20%26%26%20exec%20{quote_word(str(sshd.bin))}/pilotmtc"
    with connect_store(client.url(sshd, places["mtc-store"].url_path, options=options)) as store:
        assert store.call(GetStore()).path == str(places["mtc-store"].path / "a store.db")
