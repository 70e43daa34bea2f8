"""Commands of ``pilotmtc`` in forks of one process that has imported it: a test of the command line runs many.

A new Python for each costs a quarter of a second of CPU, most of it for imports. Here a fork has its own directory,
environment, descriptors and end, as a new process would. What tests how a program starts must start one: see
`tests.user.User.argv`.
"""

import array
import contextlib
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
_LENGTH = 1 << 20
LARGEST = 20_000  # characters of a command


class Ended(NamedTuple):
    """What a command wrote, and its exit code; as `subprocess` has it, minus the signal that killed it."""

    stdout: bytes
    stderr: bytes
    returncode: int


class Forker:
    """Runs commands. `close` ends the process behind it."""

    def __init__(self) -> None:
        self._environ = os.environ | {"PYTHONPATH": str(ROOT)}  # also if it has to begin again, in a test
        self._begin()

    def _begin(self) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-W", "error", "-m", "tests.forked", str(theirs.fileno())], cwd=ROOT,
                env=self._environ, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),), start_new_session=True,  # no Ctrl-C that a test types is meant for it
            )  # fmt: skip

    @property
    def pid(self) -> int:
        """The process that forks."""
        return self._process.pid

    def close(self) -> None:
        """End it."""
        self._socket.close()
        self._process.wait(10)

    def run(self, words: list[str], cwd: Path, env: dict[str, str], stdin: bytes | None, timeout_s: float) -> Ended:
        """Run ``pilotmtc WORDS`` to its end; None as `stdin` is /dev/null."""
        if self._process.poll() is not None:
            print(f"the process that forks has ended: {self._process.returncode}", file=sys.stderr)
            self._socket.close()
            self._begin()
        in_r, in_w = (os.open(os.devnull, os.O_RDONLY), -1) if stdin is None else os.pipe()
        out_r, out_w = os.pipe()
        err_r, err_w = os.pipe()
        theirs = [in_r, out_w, err_w]
        request = json.dumps([words, str(cwd), env], ensure_ascii=True).encode()
        try:
            self._socket.sendmsg([request], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", theirs))])
        finally:
            for fd in theirs:
                os.close(fd)
        pid = int(self._socket.recv(64))
        stdout, stderr = self._talk(pid, in_w, stdin or b"", (out_r, err_r), time.monotonic() + timeout_s)
        code = int(self._socket.recv(64))
        return Ended(stdout, stderr, code)

    def _talk(self, pid: int, in_w: int, stdin: bytes, outs: tuple[int, int], until: float) -> list[bytes]:
        """Write to the command, and read what it writes, until nobody has its outputs any more."""
        found: dict[int, list[bytes]] = {fd: [] for fd in outs}
        with selectors.DefaultSelector() as selector:
            for fd in outs:
                selector.register(fd, selectors.EVENT_READ)
            if in_w >= 0:
                os.set_blocking(in_w, False)
                selector.register(in_w, selectors.EVENT_WRITE)
            while selector.get_map():
                ready = selector.select(max(0.0, until - time.monotonic()))
                if not ready and time.monotonic() >= until:
                    os.kill(pid, signal.SIGKILL)
                    self._socket.recv(64)
                    raise TimeoutError(f"the command does not end; it wrote {found}")
                for key, _ in ready:
                    fd = key.fd
                    if fd == in_w:
                        try:
                            stdin = stdin[os.write(fd, stdin[:65536]) :]
                        except BrokenPipeError:
                            stdin = b""
                        over = not stdin
                    else:
                        data = os.read(fd, 65536)
                        found[fd].append(data)
                        over = not data
                    if over:
                        selector.unregister(fd)
                        os.close(fd)
        return [b"".join(found[fd]) for fd in outs]


def _serve(channel: socket.socket) -> None:
    """Fork for each request, until the other end is closed."""
    import click

    import pilotmtc.cli.app
    import pilotmtc.session  # noqa: F401 -- what most commands need
    from pilotmtc.cli.app import SECTIONS, app

    for section in SECTIONS.values():
        for name in section:
            if name != "tui":
                app.get_command(click.Context(app), name)
    while True:
        request, ancillary, *_ = channel.recvmsg(_LENGTH, socket.CMSG_SPACE(3 * array.array("i").itemsize))
        if not request:
            return
        fds = array.array("i")
        for _, _, data in ancillary:
            fds.frombytes(data)
        pid = os.fork()
        if pid == 0:
            channel.close()
            _become(json.loads(request), list(fds))
        for fd in fds:
            os.close(fd)
        channel.send(b"%d" % pid)
        _, status = os.waitpid(pid, 0)
        channel.send(b"%d" % os.waitstatus_to_exitcode(status))


def _become(request: Any, fds: list[int]) -> None:
    """Be the command, and end."""
    words, cwd, env = request
    for to, fd in enumerate(fds):
        os.dup2(fd, to)
        os.close(fd)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    sys.argv = ["pilotmtc", *words]
    # As the interpreter makes them, and for as long.
    sys.stdin = open(0, encoding=sys.stdin.encoding, errors=sys.stdin.errors, closefd=False)  # noqa: SIM115
    sys.stdout = open(1, "w", encoding=sys.stdout.encoding, errors=sys.stdout.errors, closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", 1, encoding=sys.stderr.encoding, errors=sys.stderr.errors, closefd=False)  # noqa: SIM115
    code: object = 70
    try:
        from pilotmtc.cli import main

        main()
    except SystemExit as end:
        code = end.code
    except BaseException:  # noqa: BLE001 -- as the interpreter would
        import traceback

        traceback.print_exc()
        code = 1
    finally:
        import atexit
        import threading

        threading._shutdown()  # type: ignore[attr-defined]  # what the interpreter does at its end
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):
                stream.flush()
        os._exit(code if isinstance(code, int) else 0 if code is None else 1)


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[1])) as _channel:
        _serve(_channel)
