"""Keys that open one store and nothing else, with a real OpenSSH server."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pilotmtc.errors import LoginRefused, NotPermitted
from pilotmtc.model import PilotDescription
from pilotmtc.protocol.client.maintenance import GetStore, SnapshotStore
from pilotmtc.protocol.client.pilots import CreatePilot, GetPilotFile
from pilotmtc.protocol.records import Key
from pilotmtc.session import Session
from pilotmtc.store.client.connect import connect_store
from tests.integration.test_ssh import USERS, Place
from tests.lab.sshd import Client, Sshd, client, sshd

__all__ = ["client", "sshd"]  # fixtures


class Keyed:
    """A store with a key of its own, which `client` has got hold of: `url` is the store's by this key alone."""

    def __init__(self, sshd: Sshd, client: Client, user: str, name: str) -> None:
        self.user = user
        self.place = Place(sshd, user, name)
        self.path = self.place.path / "a store.db"
        self.session = Session(client.url(sshd, self.place.url_path, user=user))
        self.made: Key = self.session.new_key(name)
        self.file = client.home / "pilot-key"
        self.file.touch(0o600)
        self.file.write_bytes(Path(self.made.path).read_bytes())
        self._pilot = Client(client.home, self.file, client.known_hosts, client.home / "pilot-config")
        self._pilot.write_config()
        self._sshd = sshd
        self._words = [
            "ssh", "-F", "none", "-p", str(sshd.port), "-o", f"UserKnownHostsFile={client.known_hosts}",
            "-o", "BatchMode=yes", "-o", "IdentityAgent=none", "-o", "IdentitiesOnly=yes", "-i", str(self.file),
            f"{sshd.accounts[user].name}@127.0.0.1",
        ]  # fmt: skip

    def url(self, path: str = "", transport: str = "paramiko") -> str:
        options = f"identity={self.file}&transport={transport}"
        return self._pilot.url(self._sshd, path or self.place.url_path, user=self.user, options=options)

    def ssh(self, *options: str, command: str = "") -> "subprocess.CompletedProcess[bytes]":
        argv = [*self._words[:-1], *options, self._words[-1], *([command] if command else [])]
        return subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=30, check=False)

    def remove(self) -> None:
        self.session.revoke_key(self.made.name)
        self.session.close()
        self.place.remove()


def a_keyed(sshd: Sshd, client: Client, tmp_path: Path, user: str) -> Keyed:
    return Keyed(sshd, client, user, f"{tmp_path.parent.name}-keys-{os.getpid()}")


@pytest.fixture
def keyed(sshd: Sshd, client: Client, tmp_path: Path) -> Iterator[Keyed]:
    found = a_keyed(sshd, client, tmp_path, "mtc-store")
    yield found
    found.remove()


@pytest.mark.parametrize("transport", ["paramiko", "openssh"])
@pytest.mark.parametrize("user", USERS)
def test_key_opens_the_store_whatever_is_asked_for(
    user: str, transport: str, sshd: Sshd, client: Client, tmp_path: Path
) -> None:
    keyed = a_keyed(sshd, client, tmp_path, user)
    for path in (keyed.place.url_path, "/~/another.db", "/etc/passwd"):
        with connect_store(keyed.url(path, transport), patience_s=20) as store:
            assert store.call(GetStore()).path == str(keyed.path)
    keyed.remove()


def test_key_gives_no_shell_and_no_command(keyed: Keyed, tmp_path: Path) -> None:
    proof = tmp_path / "proof"
    tmp_path.chmod(0o777)
    for command in ("", f"touch {proof}", f"true; touch {proof}", "pilotmtc serve /tmp/x; id"):
        done = keyed.ssh(command=command)
        assert b"uid=" not in done.stdout
        assert done.stdout.startswith(b"\x89pilotmtc")  # it speaks to the store's server, or not at all
    assert not proof.exists()
    assert b"PTY allocation request failed" in keyed.ssh("-tt").stderr


def test_key_forwards_nothing(keyed: Keyed, sshd: Sshd) -> None:
    done = keyed.ssh("-W", f"127.0.0.1:{sshd.port}")
    assert b"SSH-2.0" not in done.stdout
    assert b"administratively prohibited" in done.stderr
    done = keyed.ssh("-o", "ExitOnForwardFailure=yes", "-R", "0:127.0.0.1:9")
    assert done.returncode == 255
    assert b"forwarding failed" in done.stderr


def test_key_gives_no_files(keyed: Keyed, tmp_path: Path) -> None:
    done = keyed.ssh("-s", command="sftp")
    assert done.stdout == b"" or done.stdout.startswith(b"\x89pilotmtc")


def open_and_ask(url: str) -> None:
    with connect_store(url, patience_s=5) as store:
        store.call(GetStore())


@pytest.mark.parametrize("transport", ["paramiko", "openssh"])
def test_revoked_key_is_refused(transport: str, keyed: Keyed) -> None:
    assert keyed.session.revoke_key(keyed.made.name)
    assert not keyed.session.revoke_key(keyed.made.name)
    assert not os.path.exists(keyed.made.path)
    with pytest.raises(LoginRefused):
        open_and_ask(keyed.url(transport=transport))
    assert keyed.session.info().path == str(keyed.path)  # the user's own key still does


@pytest.mark.parametrize("transport", ["paramiko", "openssh"])
def test_revoked_key_is_cut_off_where_it_is_in_use(transport: str, keyed: Keyed) -> None:
    with connect_store(keyed.url(transport=transport), patience_s=20) as store:
        assert store.call(GetStore()).path == str(keyed.path)
        assert keyed.session.revoke_key(keyed.made.name)
        with pytest.raises(LoginRefused):
            store.call(GetStore())


def test_key_has_no_job_submitted_and_reads_no_file(keyed: Keyed, tmp_path: Path) -> None:
    proof = tmp_path / "proof"
    job = PilotDescription(cores=1, scheduler="local://localhost/", login="-", setup=(f"touch {proof}",))
    with connect_store(keyed.url(), patience_s=20) as store:
        with pytest.raises(NotPermitted):
            store.call(CreatePilot("job", job))
        (pilot,) = store.call(CreatePilot("files", PilotDescription(cores=1), "/etc")).pilots
        with pytest.raises(NotPermitted):
            store.call(GetPilotFile(pilot.id, "hostname"))
        with pytest.raises(NotPermitted):
            store.call(SnapshotStore(str(tmp_path / "copy")))
    assert not proof.exists()


def test_pilot_with_the_key_runs_tasks(keyed: Keyed) -> None:
    argv = [sys.executable, "-m", "pilotmtc", "--store", keyed.url(), "run", "echo {}", ":::", "1", "2"]
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False)
    assert (sorted(done.stdout.split()), done.returncode) == (["1", "2"], 0), done.stderr


def test_command_line_makes_lists_and_revokes_on_the_other_host(keyed: Keyed, sshd: Sshd, client: Client) -> None:
    def key(*words: str) -> "subprocess.CompletedProcess[str]":
        url = client.url(sshd, keyed.place.url_path)
        argv = [sys.executable, "-m", "pilotmtc", "--store", url, "store", "key", *words]
        return subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False)

    made = key("new", "of-the-cli")
    assert made.stdout == f"{keyed.path}.d/keys/of-the-cli\n", made.stderr
    listed = [json.loads(line) for line in key("list", "--json").stdout.splitlines()]
    assert [(one["name"], one["authorized"], one["private"]) for one in listed] == [
        (name, True, True) for name in sorted([keyed.made.name, "of-the-cli"])
    ]
    assert "PRIVATE KEY" not in key("list").stdout
    assert key("revoke", "of-the-cli", "--json").stdout == '{"changed":1}\n'
    assert key("revoke", "of-the-cli", "--json").stdout == '{"changed":0}\n'
    bad = key("new", "../x")
    assert (bad.returncode, bad.stdout) == (2, "")
