"""What ``pilotmtc serve`` runs: ``python -I -S serve.py [--existing] STORE [KEY]``.

It finds the store's server on this host or starts it, hands over its own stdin and stdout, and waits until the server
closes them. There is one such process per connection, so it must stay below 12 MB: it imports only small modules of
the standard library, and repeats a few lines of other files. `tests/unit/system/test_copies.py` and
`tests/unit/test_frames.py` check that the copies are the same.

On the control socket, ``serve`` sends the two descriptors and the store's path. If the connection was opened with a key
of the store, the key's name follows after a NUL; it comes from the line in ``authorized_keys``, so a client cannot
leave it out. The server replies with one byte when it has the descriptors, before it reads from them. If that byte does
not come, the server was about to exit: nothing is lost, and ``serve`` tries the next one. From then on, the connection
ends when either side closes the control socket.

A server that cannot serve yet because another host has the store holds the start lock and writes its state into that
file. ``StoreMoved`` and a host: clients are told to go there. ``wait`` and a reason: clients are sent the reason again
and again, as text before the greeting, so that they keep waiting.
"""

import errno
import fcntl
import os
import select
import socket
import stat
import struct
import sys
import time
from contextlib import contextmanager, suppress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import TextIO

try:
    from _blake2 import blake2b  # hashlib would bring OpenSSL: 5 MB
except ImportError:  # this Python was built without it
    from hashlib import blake2b

START_TIMEOUT_S = 30.0
_ACK_TIMEOUT_S = 20.0
_LET_GO_TIMEOUT_S = 10.0
LOG_LIMIT_BYTES = 1 << 20  # of the log; one older log is kept
_READY_FD = 3
_SPARE_FD = 20  # descriptors from here on are unused
_TELL_EVERY_S = 5.0
_SERVED = ("ready", "served", "StoreBusy")  # final states of a start after which a server runs
EXISTING = "--existing"
WAITING = "pilotmtc: waiting: "  # starts a line of text before the greeting
# In the server's environment: agents and guards that kill leftover processes spare this one.
MARK = "PILOTMTC_STORE_SERVER"

_AGENTS_MARK = 10  # `pilotmtc.agent.guard.MARK`
# The preamble of `pilotmtc.protocol.frames`.
_MAGIC = b"\x89pilotmtc\r\n\x1a\n"


class Refused(Exception):
    """There is no server and none will start. `error` is the name of a class in `pilotmtc.errors`."""

    def __init__(self, error: str, message: str) -> None:
        super().__init__(message)
        self.error = error


def runtime_dir() -> str:
    """Return the private directory for sockets; create it if necessary.

    Raises
    ------
    Refused
        If the directory belongs to another user or is open to others.
    """
    base = os.environ.get("XDG_RUNTIME_DIR", "")
    if os.path.isabs(base):
        try:
            seen = os.stat(base)
            if seen.st_uid == os.geteuid() and os.access(base, os.W_OK | os.X_OK):
                return _private(f"{base}/pilotmtc")
        except OSError:
            pass  # it may be removed at logout; the other directory works as well
    return _private(f"/tmp/pilotmtc-{os.geteuid()}")


def _private(directory: str) -> str:
    try:
        with suppress(FileExistsError):
            os.mkdir(directory, 0o700)
        seen = os.lstat(directory)
    except OSError as error:
        raise Refused("ConfigError", f"cannot make {directory}: {error.strerror}; set XDG_RUNTIME_DIR") from error
    if not stat.S_ISDIR(seen.st_mode) or seen.st_uid != os.geteuid() or seen.st_mode & 0o077:
        raise Refused(
            "ConfigError",
            f"{directory} must be a directory that is yours alone (mode 0700): remove it or set XDG_RUNTIME_DIR",
        )
    return directory


def socket_path(store: str) -> str:
    """Return the path of the socket on which the server of `store` (a real path) listens."""
    return f"{runtime_dir()}/{blake2b(os.fsencode(store), digest_size=10).hexdigest()}.sock"


@contextmanager
def within_reach(path: str) -> "Iterator[str]":
    """Yield an address of the socket `path`, which itself may be longer than the 107 bytes of an address."""
    if len(os.fsencode(path)) < 100:
        yield path
        return
    directory, name = os.path.split(path)
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{fd}/{name}"
    finally:
        os.close(fd)


def connect(store: str, timeout_s: float = 5.0) -> "socket.socket | None":
    """Return a connection to the server of `store` (a real path); None if there is no server."""
    own = socket_path(store)
    if (control := _dial(own, timeout_s)) is not None:
        return control
    # A server started under another XDG_RUNTIME_DIR listens elsewhere; its lock file says where.
    try:
        with _open_lock(store) as lock:
            _, _, advertised = lock.read(500).strip().partition(" ")
    except OSError:
        return None
    return _dial(advertised, timeout_s) if advertised and advertised != own else None


def _open_lock(store: str) -> "TextIO":
    # Others may be able to write there, so do not follow a link or wait for a pipe.
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    return os.fdopen(os.open(f"{store}.lock", flags), encoding="utf-8")


def _dial(path: str, timeout_s: float) -> "socket.socket | None":
    deadline = time.monotonic() + timeout_s
    while True:
        control = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            if os.lstat(path).st_uid != os.geteuid():
                control.close()
                return None
            control.settimeout(timeout_s)
            with within_reach(path) as address:
                control.connect(address)
            return control
        except OSError as error:
            control.close()
            # A full queue: the server is busy or stopped. Any other error: there is no server.
            if error.errno != errno.EAGAIN:
                return None
        if time.monotonic() > deadline:
            raise Refused("ConnectError", f"the store's server does not answer on {path}: it hangs, or is overrun")
        time.sleep(0.02)


def hand_over(control: socket.socket, store: str, key: str = "") -> bool:
    """Pass stdin and stdout, opened with `key`, to the server; return whether it has taken them."""
    control.settimeout(_ACK_TIMEOUT_S)
    try:
        socket.send_fds(control, [os.fsencode(f"{store}\0{key}" if key else store)], [0, 1])
        return control.recv(1) != b""
    except TimeoutError as error:
        raise Refused(
            "ConnectError", f"the store's server has not answered for {_ACK_TIMEOUT_S:.0f} s: it hangs, or is overrun"
        ) from error
    except OSError:
        return False  # the server was exiting


def wait_for_end(control: socket.socket) -> None:
    """Wait until the server has closed the connection, but not much longer than the client exists."""
    poll = select.poll()
    poll.register(control, select.POLLIN)
    poll.register(0, 0)  # the end of the client shows as POLLHUP
    gone = False
    while True:
        events = poll.poll(_LET_GO_TIMEOUT_S * 1000 if gone else None)
        if not events or any(fd == control.fileno() for fd, _ in events):
            return
        gone = True
        poll.unregister(0)


def start(store: str, deadline: float) -> "tuple[str, float]":
    """Start a server unless one runs by now.

    Returns
    -------
    tuple
        The path of its socket, empty if that is the usual one; and the deadline, postponed if there was a good reason
        to wait.

    Raises
    ------
    Refused
        If the server cannot open the store, with the server's own message.
    """
    path = socket_path(store)
    lock = os.open(path[: -len("sock")] + "start", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    told_at = -_TELL_EVERY_S
    try:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                # Another serve is starting the server. Once that can be reached, the lock does not matter.
                if (control := connect(store)) is not None:
                    control.close()
                    return "", deadline
                word, _, message = os.pread(lock, 4096, 0).decode("utf-8", "replace").partition("\n")
                now = time.monotonic()
                if word == "wait":
                    deadline = now + START_TIMEOUT_S
                    if now - told_at >= _TELL_EVERY_S:
                        told_at = now
                        _say_to_client(f"{WAITING}{message}\n")
                    time.sleep(0.1)
                elif word not in ("", *_SERVED):  # otherwise a server runs by now: look again
                    raise Refused(word, message) from None
                if now > deadline:
                    raise Refused("ConnectError", "another process has been starting the store's server") from None
                time.sleep(0.01)
        if (control := connect(store)) is not None:
            control.close()
            return "", deadline
        os.ftruncate(lock, 0)
        return _spawn(store, path[: -len("sock")] + "log", lock, deadline), deadline
    finally:
        os.close(lock)


def _say_to_client(text: str) -> None:
    try:
        os.write(1, text.encode("utf-8", "replace"))
    except OSError as error:
        raise Refused("ChannelClosed", f"the client has gone: {error.strerror}") from error


def _spawn(store: str, log_path: str, lock: int, deadline: float) -> str:
    """Start the server, which holds `lock` until it serves; return its socket's path if that is not the usual one."""
    with suppress(FileNotFoundError):
        if os.stat(log_path).st_size > LOG_LIMIT_BYTES:
            os.rename(log_path, log_path + ".1")
    opened = os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    log_start = os.fstat(opened).st_size
    ready, writing = os.pipe()
    log, theirs = out_of_the_way(opened), out_of_the_way(writing)
    os.close(opened)
    os.close(writing)
    environment = shared_environment() | {MARK: store}
    from resource import getrlimit, setrlimit

    # It does not belong to a task or pilot that happens to start it: remove the mark that `pilotmtc.agent.guard` sets.
    setrlimit(_AGENTS_MARK, (getrlimit(_AGENTS_MARK)[1],) * 2)
    kept = fcntl.fcntl(lock, fcntl.F_DUPFD, _SPARE_FD)
    argv = [*_program(), store, f"--ready-fd={_READY_FD}", f"--lock-fd={kept}"]
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
        (os.POSIX_SPAWN_DUP2, log, 1),
        (os.POSIX_SPAWN_DUP2, log, 2),
        (os.POSIX_SPAWN_DUP2, theirs, _READY_FD),
    ]
    try:
        # The server itself starts a new session: not every libc can do that here.
        pid = os.posix_spawn(sys.executable, argv, environment, file_actions=actions)
    finally:
        os.close(log)
        os.close(theirs)
        os.close(kept)
    said = _read_all(ready, deadline)
    os.close(ready)
    if said is None:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
        raise Refused(
            "ConnectError", f"the store's server was not ready within {START_TIMEOUT_S:.0f} s: see {log_path}"
        )
    error, _, message = said.decode("utf-8", "replace").partition("\n")
    if error in ("ready", "wait", "StoreBusy"):  # busy: another server has the file, and the caller looks for it
        return ""
    if error == "StoreMoved":  # the server stays, and watches the other host
        raise Refused(error, message)
    os.waitpid(pid, 0)
    if error == "served":
        return message
    if not error:
        with open(log_path, "rb") as file:
            file.seek(log_start)
            message = file.read()[-2000:].decode("utf-8", "replace").strip()
        raise Refused("ConnectError", f"the store's server failed to start: {message or 'it wrote no message'}")
    raise Refused(error, message)


def _program() -> "list[str]":
    boot = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "boot.py")
    return [sys.executable, "-E", "-P", boot, "pilotmtc.store.server"]


def shared_environment() -> "dict[str, str]":
    """Return this process's environment without the variables that describe the task or pilot that it may run in."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("PILOTMTC_") or name.startswith("PILOTMTC_SERVER_")
    }


def roll_log(log_path: str) -> None:
    """Start a new log if this one is large and this process, the server, writes it."""
    ours = os.fstat(2)
    try:
        there = os.stat(log_path)
    except FileNotFoundError:
        return
    if ours.st_size <= LOG_LIMIT_BYTES or (ours.st_dev, ours.st_ino) != (there.st_dev, there.st_ino):
        return
    new = os.open(log_path + ".new", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    os.rename(log_path, log_path + ".1")
    os.rename(log_path + ".new", log_path)
    os.dup2(new, 1)
    os.dup2(new, 2)
    os.close(new)


def _read_all(fd: int, deadline: float) -> "bytes | None":
    """Read until the other side closes; return None if it does not do so in time."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    said = b""
    while poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
        data = os.read(fd, 4096)
        if not data:
            return said
        said += data
    return None


def out_of_the_way(fd: int) -> int:
    """Return a copy of `fd` with a high number, which no file action of `posix_spawn` overwrites."""
    return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _SPARE_FD)


def close_inherited(*kept: "int | None") -> None:
    """Close all descriptors that this process has inherited, except the first three and `kept`.

    Otherwise it might hold a lock of its parent's for as long as it lives.
    """
    for name in os.listdir("/proc/self/fd"):
        fd = int(name)
        if fd > 2 and fd not in kept:
            with suppress(OSError):  # that of the listing itself is closed by now
                os.close(fd)


def failure_frame(error: str, message: str) -> bytes:
    """Return the preamble and the frame ``[~0, Failure]``, which tell the client why there is no server."""
    parts = [b"\x92\xff\x82"]
    for text in ("error", error, "message", message):
        data = text.encode("utf-8", "replace")[:20_000]
        parts.append(b"\xdb" + struct.pack(">I", len(data)) + data)
    body = b"".join(parts)
    return _MAGIC + struct.pack(">I", len(body)) + body


def serve(store: str, key: str = "", *, existing: bool = False) -> None:
    """Connect stdin and stdout to the server of `store` until either side ends the connection.

    With a `key`, or for an `existing` store, no new store is made: pilots wait for a store that was moved to come back.
    """
    for fd in (0, 1):
        mode = os.fstat(fd).st_mode
        if not (stat.S_ISSOCK(mode) or stat.S_ISFIFO(mode)):
            raise Refused("UsageError", "serve is for programs: its stdin and stdout must be a pipe or a socket")
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        control = connect(store)
        if control is None:
            if (key or existing) and not os.path.exists(store):
                raise Refused("ConnectError", f"the store {store} does not exist: put it back if it was moved")
            elsewhere, deadline = start(store, deadline)
            control = _dial(elsewhere, 5.0) if elsewhere else connect(store)
        if control is not None:
            with control:
                if hand_over(control, store, key):
                    wait_for_end(control)
                    return
        if time.monotonic() > deadline:
            try:
                with _open_lock(store) as lock:
                    owner = lock.read(500).partition(" ")[0]
            except OSError:
                owner = "unknown"
            raise Refused(
                "StoreBusy", f"process {owner} has the store {store} but cannot be reached: end it, then try again"
            )
        time.sleep(0.01)


def main(argv: "list[str]") -> int:
    """Run serve with the arguments `argv`; return the exit code."""
    words = [word for word in argv[1:] if word != EXISTING]
    if len(words) not in (1, 2):
        sys.stderr.write(f"usage: serve.py [{EXISTING}] STORE [KEY]\n")
        return 2
    store = os.path.realpath(os.path.expanduser(words[0]))
    try:
        serve(store, *words[1:], existing=EXISTING in argv)
    except Refused as refused:
        sys.stderr.write(f"pilotmtc: error: {refused}\n")
        with suppress(OSError):  # the client has gone
            os.write(1, failure_frame(refused.error, str(refused)))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
