"""A real OpenSSH server on a free port of the loopback interface, with keys of its own."""

import contextlib
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType

import pytest
from msgspec import Struct

from tests.lab.machine import ROOT, Account, accounts, write_launcher
from tests.support import wait_until

_SSHD = "/usr/sbin/sshd"
_START_TIMEOUT_S = 20.0
_PAM_PASSWORD = "auth required pam_unix.so nodelay\n"
_PAM_OTP = "auth required pam_oath.so usersfile={file} window=5 digits=6\n"
_PAM_REST = "account required pam_permit.so\nsession required pam_permit.so\n"


class Sshd:
    """A running server. It listens at `port`, knows `accounts`, and has `pilotmtc` on the PATH of their shells.

    Parameters
    ----------
    methods
        AuthenticationMethods, such as ``publickey`` or ``publickey,keyboard-interactive``.
    otp
        Whether keyboard-interactive asks for a one-time code (HOTP of `OTP_SECRET`) after the password.
    port
        A certain port; 0 is a free one.
    host
        A name of its own for the host that it is on, which then has runtime files of its own, too. Needs root.
    penalties
        Whether an address whose logins fail is refused for a while, as far as this sshd knows of that.
    environment
        Variables of all sessions.
    """

    OTP_SECRET = b"12345678901234567890"  # of RFC 4226, whose codes are printed there

    def __init__(
        self,
        *,
        methods: str = "any",
        otp: bool = False,
        port: int = 0,
        launcher: bool = True,
        path: str = "",
        host: str = "",
        penalties: bool = False,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.host = host
        # Not under pytest's directory, which nobody but its owner may enter.
        self.directory = Path(tempfile.mkdtemp(prefix="mtc-sshd-"))
        self.directory.chmod(0o755)
        self.accounts = accounts()
        self.port = port or _free_port()
        self._pam: Path | None = None
        self._authorized: set[Path] = set()
        self.host_key = make_key(self.directory / "host_key")
        self.bin = self.directory / "bin"
        self.bin.mkdir()
        if launcher:
            write_launcher(self.bin / "pilotmtc")
        self._config = self._write_config(methods, otp, path, environment or {})
        if knows("PerSourcePenalties yes"):
            with open(self._config, "a", encoding="ascii") as config:
                config.write(f"PerSourcePenalties {'authfail:10 min:5' if penalties else 'no'}\n")
        self._program = self._directory_program(otp)
        self._server = self._start()

    # -- what tests use ---------------------------------------------------------------------------------------

    @property
    def account(self) -> Account:
        return self.accounts["mtc-store"]

    @property
    def known_hosts_line(self) -> str:
        kind, key = self.host_key.with_suffix(".pub").read_text().split()[:2]
        return f"[127.0.0.1]:{self.port} {kind} {key}\n"

    @property
    def log(self) -> str:
        return (self.directory / "sshd.log").read_text()

    @property
    def logins_tried(self) -> int:
        """How many connections have come so far."""
        return self.log.count("Connection from ")

    @property
    def logins(self) -> int:
        """How many of them were let in.

        A client may know it before the log does. A connection is certainly counted once a command has begun, or it has
        ended.
        """
        return len(re.findall(r"^Accepted \S+ for ", self.log, re.MULTILINE))

    def authorize(self, public_key: Path, options: str = "") -> None:
        """Let the holder of a key in, to every account."""
        line = f"{options} {public_key.read_text()}".lstrip()
        for account in self.accounts.values():
            file = self._keys_of(account)
            with open(file, "a", encoding="ascii") as keys:
                keys.write(line)
            file.chmod(0o644)

    def connections(self) -> list[int]:
        """Return the processes that serve connections now."""
        return _children(self._server.pid)

    def cut(self) -> None:
        """Kill the processes of all connections."""
        self._kill(self._stopped())

    def restart(self) -> None:
        """Start again on the same port, after `stop`."""
        self._server = self._start()

    def stop(self) -> None:
        """End the server and its connections."""
        pids = self._stopped()
        self._server.terminate()
        self._server.wait(10)
        self._kill(pids)

    def close(self) -> None:
        """Stop, and remove every trace."""
        self.stop()
        if self._pam is not None:
            self._pam.unlink(missing_ok=True)
        for file in self._authorized:
            file.unlink(missing_ok=True)
        shutil.rmtree(self.directory)

    def __enter__(self) -> "Sshd":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- how it is made ---------------------------------------------------------------------------------------

    def _keys_of(self, account: Account) -> Path:
        keys = self.directory / f"keys-{account.name}"
        if not keys.exists():
            keys.touch(0o644)
            self._authorized.add(keys)
        return keys

    def _write_config(self, methods: str, otp: bool, path: str, environment: Mapping[str, str]) -> Path:
        config = self.directory / "sshd_config"
        # The tests' own accounts have files of their own for keys; that of a person is left alone.
        own_keys = "" if ROOT else f" PILOTMTC_SERVER_AUTHORIZED_KEYS={self._keys_of(self.account)}"
        own_host = ""
        if self.host:
            runtime = self.directory / "run"
            runtime.mkdir(0o700)
            shutil.chown(runtime, self.account.name)
            own_host = f" XDG_RUNTIME_DIR={runtime} PILOTMTC_SERVER_RENEW_S=0.3"
        more = "".join(f" {name}={value}" for name, value in environment.items())
        lines = [
            f"ListenAddress 127.0.0.1:{self.port}",
            f"HostKey {self.host_key}",
            f"PidFile {self.directory}/sshd.pid",
            f"AuthorizedKeysFile {self.directory}/keys-%u{' .ssh/authorized_keys' if ROOT else ''}",
            f"SetEnv PATH={path or f'{self.bin}:/usr/bin:/bin'} PILOTMTC_SERVER_LINGER_S=0.3{own_keys}{own_host}{more}",
            "StrictModes no",  # its directory lies in /tmp, which others may write
            f"AuthenticationMethods {methods}",
            f"UsePAM {'yes' if ROOT else 'no'}",
            f"PasswordAuthentication {'yes' if ROOT and not otp else 'no'}",
            f"KbdInteractiveAuthentication {'yes' if ROOT else 'no'}",
            "LogLevel VERBOSE",
            "MaxStartups 100",
            "PrintMotd no",
            "Subsystem sftp internal-sftp",
        ]
        config.write_text("\n".join(lines) + "\n")
        return config

    def _directory_program(self, otp: bool) -> str:
        """Return the path to run sshd by. PAM's rules go by its last part, or by a name in the configuration."""
        if not ROOT:
            return _SSHD
        name = self.directory.name
        link = self.directory / name
        link.symlink_to(_SSHD)
        rules = _PAM_PASSWORD
        if otp:
            users = self.directory / "users.oath"
            users.touch(0o600)
            secret = self.OTP_SECRET.hex()
            users.write_text("".join(f"HOTP {each} - {secret}\n" for each in self.accounts))
            rules += _PAM_OTP.format(file=users)
        self._pam = Path("/etc/pam.d") / name
        self._pam.write_text(rules + _PAM_REST)
        if knows(f"PAMServiceName {name}"):
            with open(self._config, "a", encoding="ascii") as config:
                config.write(f"PAMServiceName {name}\n")
        return str(link)

    def _stopped(self) -> list[int]:
        """Return the processes of all connections, which can start no others any more."""
        found: list[int] = []
        waiting = self.connections()
        while waiting:
            pid = waiting.pop()
            try:
                os.kill(pid, signal.SIGSTOP)
            except ProcessLookupError:
                continue
            found.append(pid)
            waiting += [child for child in _children(pid) if self._is_own(child)]
        return found

    def _is_own(self, pid: int) -> bool:
        try:
            comm = Path(f"/proc/{pid}/comm").read_text().strip()
        except OSError:
            return False
        # As much as the kernel keeps. Since OpenSSH 9.8 a connection has programs of its own.
        return comm in (Path(self._program).name[:15], "sshd-session", "sshd-auth")

    def _kill(self, pids: list[int]) -> None:
        # Without another look at what they are: a stopped process keeps its number, but may have just begun a shell.
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _start(self) -> "subprocess.Popen[bytes]":
        name = ["unshare", "--uts", "sh", "-c", 'hostname "$0" && exec "$@"', self.host] if self.host else []
        argv = [*name, self._program, "-D", "-f", str(self._config), "-E", str(self.directory / "sshd.log")]
        log = self.directory / "sshd.log"
        log.touch()
        before = self.log.count("Server listening")
        server = subprocess.Popen(argv, stdin=subprocess.DEVNULL, start_new_session=True)
        deadline = time.monotonic() + _START_TIMEOUT_S
        while time.monotonic() < deadline and server.poll() is None:
            if self.log.count("Server listening") > before:
                return server
            time.sleep(0.01)
        server.kill()
        server.wait(10)
        raise RuntimeError(f"sshd did not start: {self.log}")


class Client(Struct, frozen=True):
    """The client's side: a directory with a key, known hosts and a configuration of its own."""

    home: Path
    key: Path
    known_hosts: Path
    config: Path

    def write_config(self, text: str = "") -> None:
        """Write the configuration: `text` before what all have."""
        common = f"Host *\n  UserKnownHostsFile {self.known_hosts}\n  GlobalKnownHostsFile none\n"
        self.config.write_text(f"{text}\n{common}  IdentityFile {self.key}\n  IdentityAgent none\n")

    def url(self, sshd: Sshd, path: str = "/~/none.db", *, user: str = "mtc-store", options: str = "") -> str:
        """Return the URL of a file at the server."""
        name = sshd.accounts[user].name
        return f"ssh://{name}@127.0.0.1:{sshd.port}{path}?config={self.config}{'&' if options else ''}{options}"


def make_client(home: Path, sshd: Sshd, *, known: bool = True, allowed: bool = True) -> Client:
    """Return a client in the empty directory `home` whom `sshd` lets in."""
    home.mkdir(exist_ok=True)
    client = Client(home, make_key(home / "id"), home / "known_hosts", home / "config")
    client.known_hosts.write_text(sshd.known_hosts_line if known else "")
    client.write_config()
    if allowed:
        sshd.authorize(client.key.with_suffix(".pub"))
    return client


def make_key(path: Path, phrase: str = "", kind: str = "ed25519") -> Path:
    """Make a key pair; return the path of the private half."""
    keygen: Sequence[str] = ("ssh-keygen", "-q", "-t", kind, "-N", phrase, "-C", path.name, "-f", str(path))
    subprocess.run(keygen, check=True, capture_output=True, timeout=60)
    return path


@pytest.fixture(scope="module")
def sshd() -> Iterator[Sshd]:
    """A server that takes keys and passwords."""
    if not ROOT and not os.path.exists(_SSHD):
        pytest.skip("needs OpenSSH's server (Debian: openssh-server)")
    with Sshd() as server:
        yield server


@pytest.fixture
def client(tmp_path: Path, sshd: Sshd) -> Client:
    """Somebody with a key for `sshd`, which has no connection left from before."""
    wait_until(lambda: not sshd.connections())
    return make_client(tmp_path / "client", sshd)


def _free_port() -> int:
    # Below those that the kernel gives to whoever connects: one of them could be taken while the server is away.
    while True:
        port = random.randrange(20_000, 32_000)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


def knows(setting: str) -> bool:
    """Return whether this sshd has a setting; some came with OpenSSH 9.8 and later."""
    argv = [_SSHD, "-T", "-o", setting.replace(" ", "=")]
    done = subprocess.run(argv, capture_output=True, timeout=20, check=False)
    return b"Bad configuration option" not in done.stderr


def _children(pid: int) -> list[int]:
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []
