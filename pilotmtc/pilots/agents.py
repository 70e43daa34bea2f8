"""An agent on this machine, reached by signals, for when the store cannot give it orders."""

import contextlib
import os
import select
import signal

from pilotmtc.system import processes

_AGENT = b"pilotmtc.agent"
_POST_MORTEM = b"--post-mortem"
END_S = 12.0  # an agent stops its tasks, with a grace of 5 s, and waits for a store that takes no results for 4 s


class LocalAgent:
    """The agent of the pilot whose files are in `directory`. It counts as ended if it is on another machine."""

    def __init__(self, directory: str) -> None:
        self._fd = _find(os.fsencode(directory))

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return self._is_over(0.0)

    def drain(self) -> None:
        """Let it finish the running tasks, and leave."""
        self._signal(signal.SIGTERM)

    def cancel(self) -> None:
        """Let it stop its tasks, and leave."""
        self._signal(signal.SIGTERM)
        self._signal(signal.SIGINT)  # means the same, and is counted even if the first one is still to be taken in

    def kill(self) -> None:
        """Kill it. Its guard then kills its tasks."""
        self._signal(signal.SIGKILL)

    def end(self) -> None:
        """Cancel it, and kill it if it has not left after `END_S`."""
        self.cancel()
        if not self._is_over(END_S):
            self.kill()

    def close(self) -> None:
        """Close what is open; the agent runs on."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _is_over(self, wait_s: float) -> bool:
        return self._fd is None or bool(select.select([self._fd], [], [], wait_s)[0])

    def _signal(self, number: signal.Signals) -> None:
        if self._fd is not None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._fd, number)


def _find(directory: bytes) -> int | None:
    """Return a descriptor of the agent's process, which its command line tells from all others."""
    for pid in processes.pids():
        if not _is_agent(pid, directory):
            continue
        with contextlib.suppress(ProcessLookupError):
            fd = os.pidfd_open(pid)
            if _is_agent(pid, directory):  # the number has not become another one's meanwhile
                return fd
            os.close(fd)
    return None


def _is_agent(pid: int, directory: bytes) -> bool:
    words = processes.command_line(pid)
    return _AGENT in words and directory in words and _POST_MORTEM not in words
