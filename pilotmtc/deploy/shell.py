"""Runs commands on a site: over the one connection to it, or on this machine."""

import os
import threading
from types import TracebackType

from msgspec import Struct

from pilotmtc.errors import ConnectError
from pilotmtc.sites import Site
from pilotmtc.transport.link import CommandChannel, HostLink
from pilotmtc.transport.pool import SharedLink
from pilotmtc.transport.process import open_process

_MOST_BYTES = 4 << 20
_STATUS_WAIT_S = 5.0


class CommandResult(Struct, frozen=True):
    """How a command ended, and its output; `status` is None if it is not known."""

    status: int | None
    out: str
    words: str

    @property
    def said(self) -> str:
        """The end of its output on either stream, for messages."""
        return self.words or self.out.strip()[-2000:] or "it wrote no message"


class Shell:
    """Runs commands at a site.

    Attributes
    ----------
    where
        The machine's name in messages.
    """

    def __init__(self, site: Site) -> None:
        target = site.target
        self._shared = SharedLink(target) if target is not None else None
        self.where = target.host if target is not None else "this machine"

    def __enter__(self) -> "Shell":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._shared is not None:
            self._shared.close()

    @property
    def link(self) -> HostLink | None:
        """The connection; None on this machine."""
        return None if self._shared is None else self._shared.link

    def run(self, command: str, script: str = "", timeout_s: float = 60.0) -> CommandResult:
        """Run a shell line there with `script` on its stdin, which stays open; return the result.

        Raises
        ------
        ConnectError
            If the machine cannot be reached, or if the command does not end within `timeout_s`.
        """
        channel = self._open(command)
        late = threading.Event()

        def give_up() -> None:
            late.set()
            channel.close()

        timer = threading.Timer(timeout_s, give_up)
        timer.start()
        out = bytearray()
        try:
            channel.write(script.encode())
            while len(out) < _MOST_BYTES and (data := channel.read(64 << 10)):
                out += data
            status = channel.exit_status(_STATUS_WAIT_S)
            words = channel.last_words()
        except ConnectError:
            if not late.is_set():
                raise
            status, words = None, ""
        finally:
            timer.cancel()
            timer.join()
            channel.close()
        if late.is_set():
            raise ConnectError(f"{self.where} has not come to an end of `{command[:60]}` within {timeout_s:.0f} s")
        return CommandResult(status, out.decode("utf-8", "replace"), words)

    def _open(self, command: str) -> CommandChannel:
        if self._shared is not None:
            return self._shared.link.open(command)
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PILOTMTC_PILOT")}
        return open_process(["/bin/sh", "-c", command], environment)


def marked(out: str, mark: str) -> list[str]:
    """Return the lines of `out` that start with `mark`, without the mark: start-up files may have printed others."""
    return [line[len(mark) :] for line in out.splitlines() if line.startswith(mark)]
