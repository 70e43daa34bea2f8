"""Logins at a real OpenSSH server: keys, agents, passwords, one-time codes."""

import hashlib
import hmac
import os
import pty
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from pilotmtc.errors import LoginRefused
from pilotmtc.transport.ssh.link import SshLink
from pilotmtc.transport.ssh.url import parse_url
from tests.lab.machine import ROOT
from tests.lab.sshd import Client, Sshd, client, make_client, make_key, sshd
from tests.support import wait_until

__all__ = ["client", "sshd"]  # fixtures

needs_accounts = pytest.mark.skipif(not ROOT, reason="needs root, to make accounts with passwords")


class Person:
    """Answers questions, and remembers them."""

    def __init__(self, *answers: str) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    def __call__(self, prompts: Sequence[str], echo: Sequence[bool]) -> Sequence[str]:
        self.asked += prompts
        return [self.answers.pop(0) for _ in prompts]


def hotp(counter: int) -> str:
    digest = hmac.digest(Sshd.OTP_SECRET, counter.to_bytes(8, "big"), hashlib.sha1)
    at = digest[-1] & 15
    return f"{(int.from_bytes(digest[at : at + 4], 'big') & 0x7FFFFFFF) % 10**6:06}"


def greet(link: SshLink) -> None:
    channel = link.open("echo hello")
    assert channel.read(100) == b"hello\n"
    channel.close()


def cut(sshd: Sshd, link: SshLink) -> None:
    channel = link.open("exec cat")
    sshd.cut()
    assert channel.read(1) == b""
    channel.close()


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "rsa"])
def test_keys_of_every_type_open(kind: str, sshd: Sshd, client: Client, tmp_path: Path) -> None:
    key = make_key(tmp_path / kind, kind=kind)
    sshd.authorize(key.with_suffix(".pub"))
    link = SshLink(parse_url(client.url(sshd, options=f"identity={key}")))
    greet(link)
    link.close()


def test_passphrase_is_asked_once(sshd: Sshd, client: Client, tmp_path: Path) -> None:
    key = make_key(tmp_path / "locked", "open sesame")
    sshd.authorize(key.with_suffix(".pub"))
    person = Person("wrong", "open sesame")
    link = SshLink(parse_url(client.url(sshd, options=f"identity={key}")), ask=person)
    greet(link)
    assert len(person.asked) == 2
    assert str(key) in person.asked[0]
    cut(sshd, link)
    greet(link)
    assert len(person.asked) == 2
    link.close()


def test_agent_holds_the_key(sshd: Sshd, client: Client, tmp_path: Path) -> None:
    key = make_key(tmp_path / "held")
    sshd.authorize(key.with_suffix(".pub"))
    socket = tmp_path / "agent"
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", str(socket)], stdout=subprocess.DEVNULL)
    try:
        wait_until(socket.exists)
        environment = {**os.environ, "SSH_AUTH_SOCK": str(socket)}
        subprocess.run(["ssh-add", "-q", str(key)], env=environment, check=True, timeout=20, capture_output=True)
        key.unlink()
        client.config.write_text(
            f"Host *\n IdentityAgent {socket}\n UserKnownHostsFile {client.known_hosts}\n IdentityFile none\n"
        )
        link = SshLink(parse_url(client.url(sshd)))
        greet(link)
        link.close()
    finally:
        agent.terminate()
        agent.wait(10)


def test_certificate_beside_the_key_is_shown(client: Client, tmp_path: Path) -> None:
    # Signed by an authority that the server trusts by the line of its key.
    authority = make_key(tmp_path / "authority")
    key = make_key(tmp_path / "signed")
    with Sshd() as server:
        name = server.account.name
        sign = ["ssh-keygen", "-q", "-s", str(authority), "-I", "test", "-n", name, f"{key}.pub"]
        subprocess.run(sign, check=True, capture_output=True, timeout=20)
        server.authorize(authority.with_suffix(".pub"), "cert-authority")
        client.known_hosts.write_text(server.known_hosts_line)
        link = SshLink(parse_url(client.url(server, options=f"identity={key}")))
        greet(link)
        link.close()


def test_refused_login_is_not_tried_again(sshd: Sshd, tmp_path: Path) -> None:
    stranger = make_client(tmp_path / "stranger", sshd, allowed=False)
    link = SshLink(parse_url(stranger.url(sshd)), ask=Person("", "", "", "", "", "", "", ""))
    with pytest.raises(LoginRefused, match=r"refuses the login.*wants: .*publickey.*tried: .*stranger/id"):
        link.open("true")
    tried = sshd.logins_tried
    for _ in range(3):
        with pytest.raises(LoginRefused, match="refuses the login"):
            link.open("true")
    assert sshd.logins_tried == tried
    link.close()


def test_keys_beyond_the_host_s_patience_are_named(sshd: Sshd, tmp_path: Path) -> None:
    stranger = make_client(tmp_path / "stranger", sshd, allowed=False)
    keys = [make_key(tmp_path / f"key{number}") for number in range(8)]
    stranger.write_config("".join(f"IdentityFile {key}\n" for key in keys) + "PasswordAuthentication no\n")
    with Sshd(methods="publickey") as server:
        stranger.known_hosts.write_text(server.known_hosts_line)
        link = SshLink(parse_url(stranger.url(server)))
        with pytest.raises(LoginRefused, match="IdentitiesOnly"):
            link.open("true")
        link.close()


@needs_accounts
def test_password_is_asked_once_and_used_again(sshd: Sshd, tmp_path: Path) -> None:
    person = Person("wrong", sshd.account.password)
    stranger = make_client(tmp_path / "stranger", sshd, allowed=False)
    link = SshLink(parse_url(stranger.url(sshd)), ask=person)
    greet(link)
    prompt = f"(mtc-store@127.0.0.1:{sshd.port}) Password: "
    assert person.asked == [prompt, f"That was not accepted. Once more:\n{prompt}"]
    cut(sshd, link)
    greet(link)
    assert len(person.asked) == 2
    link.close()


@needs_accounts
def test_plain_password_method(tmp_path: Path) -> None:
    with Sshd(methods="password") as server:
        stranger = make_client(tmp_path / "stranger", server, allowed=False)
        link = SshLink(parse_url(stranger.url(server)), ask=Person(server.account.password))
        greet(link)
        link.close()


@needs_accounts
def test_one_time_code_is_asked_again_but_not_the_password(tmp_path: Path) -> None:
    with Sshd(methods="keyboard-interactive", otp=True) as server:
        person = Person(server.account.password, hotp(0), hotp(1))
        stranger = make_client(tmp_path / "stranger", server, allowed=False)
        link = SshLink(parse_url(stranger.url(server)), ask=person)
        greet(link)
        assert [("One-time" in each) for each in person.asked] == [False, True]
        cut(server, link)
        greet(link)
        assert [("One-time" in each) for each in person.asked] == [False, True, True]
        link.close()


@needs_accounts
def test_key_and_code_together(tmp_path: Path) -> None:
    with Sshd(methods="publickey,keyboard-interactive", otp=True) as server:
        person = Person(server.account.password, hotp(0))
        friend = make_client(tmp_path / "friend", server)
        link = SshLink(parse_url(friend.url(server)), ask=person)
        greet(link)
        assert len(person.asked) == 2
        link.close()


@needs_accounts
def test_without_a_terminal_the_remedy_is_told(sshd: Sshd, tmp_path: Path) -> None:
    stranger = make_client(tmp_path / "stranger", sshd, allowed=False)
    code = (
        "import sys\n"
        "from pilotmtc.errors import ConnectError\n"
        "from pilotmtc.store.client.connect import connect_store\n"
        "try:\n  connect_store(sys.argv[1])\n"
        "except ConnectError as error:\n  print(error, error.transient)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, stranger.url(sshd)],
        capture_output=True, text=True, timeout=60, start_new_session=True, check=True,
    )  # fmt: skip
    assert "no terminal to ask on: use a key" in done.stdout
    assert done.stdout.endswith("False\n")
    assert done.stderr == ""


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    ours, theirs = pty.openpty()
    yield ours, theirs
    os.close(ours)
    os.close(theirs)


@needs_accounts
def test_password_is_asked_on_the_terminal_without_echo(sshd: Sshd, tmp_path: Path, terminal: tuple[int, int]) -> None:
    ours, theirs = terminal
    stranger = make_client(tmp_path / "stranger", sshd, allowed=False)
    code = (
        "import fcntl, sys, termios\n"
        "fcntl.ioctl(int(sys.argv[2]), termios.TIOCSCTTY, 0)\n"  # its controlling terminal
        "from pilotmtc.transport.ssh.link import SshLink\n"
        "from pilotmtc.transport.ssh.url import parse_url\n"
        "link = SshLink(parse_url(sys.argv[1]))\n"
        "channel = link.open('echo hello')\n"
        "print(channel.read(100))\n"
        "channel.close(); link.close()\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code, stranger.url(sshd), str(theirs)],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, pass_fds=[theirs],
        start_new_session=True,
    )  # fmt: skip
    shown = bytearray()

    def listen() -> None:
        while b"\n" not in shown:
            shown.extend(os.read(ours, 1000))

    listener = threading.Thread(target=listen)
    listener.start()
    wait_until(lambda: b"Password: " in shown, 30)
    os.write(ours, sshd.account.password.encode() + b"\n")
    out, err = child.communicate(timeout=60)
    listener.join(10)
    assert out == b"b'hello\\n'\n", err
    assert sshd.account.password.encode() not in shown


def test_codes_are_those_of_the_standard() -> None:
    assert [hotp(counter) for counter in range(3)] == ["755224", "287082", "359152"]
