"""Agents on this machine, reached by signals if the store cannot give them orders."""

import contextlib
import os
import select
import signal

from pilotmtc.system import processes

_AGENT = b"pilotmtc.agent"
_POST_MORTEM = b"--post-mortem"
END_S = 12.0  # an agent stops its tasks, with a grace of 5 s, and waits 4 s for a store that does not take results


class LocalAgent:
    """The agent of the pilot with this `directory`. It counts as ended if it is on another machine."""

    def __init__(self, directory: str) -> None:
        self._fd = _find(os.fsencode(directory))

    @property
    def over(self) -> bool:
        """Whether the agent has ended."""
        return self._is_over(0.0)

    def drain(self) -> None:
        """Let the agent finish its running tasks and exit."""
        self._signal(signal.SIGTERM)

    def cancel(self) -> None:
        """Let the agent stop its tasks and exit."""
        self._signal(signal.SIGTERM)
        self._signal(signal.SIGINT)  # a second signal, which counts even if the first is still pending

    def kill(self) -> None:
        """Kill the agent; its guard then kills its tasks."""
        self._signal(signal.SIGKILL)

    def end(self) -> None:
        """Cancel the agent, and kill it if it has not exited after `END_S`."""
        self.cancel()
        if not self._is_over(END_S):
            self.kill()

    def close(self) -> None:
        """Release the agent's process, which continues."""
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
    """Return a descriptor of the agent's process, which is recognized by its command line."""
    for pid in processes.pids():
        if not _is_agent(pid, directory):
            continue
        with contextlib.suppress(ProcessLookupError):
            fd = os.pidfd_open(pid)
            if _is_agent(pid, directory):  # the process id was not reused in the meantime
                return fd
            os.close(fd)
    return None


def _is_agent(pid: int, directory: bytes) -> bool:
    words = processes.command_line(pid)
    return _AGENT in words and directory in words and _POST_MORTEM not in words
