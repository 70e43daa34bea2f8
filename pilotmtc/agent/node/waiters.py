"""Threads that wait for the end of tasks, one per core of the machine.

A waiter sleeps in ``waitid`` for its one task, deals with its end and starts the next one itself. The kernel wakes it
on the very core that the task has just left, and with tasks bound to cores it never leaves that core: no other core
idles meanwhile. On two cores, short tasks have a fifth more throughput than with one thread that polls for all. Tasks
beyond the number of cores are left to the poll.
"""

import os
import queue
import signal
import threading
from collections.abc import Callable

from pilotmtc.agent.node.interface import Process

_STACK_BYTES = 256 * 1024
_JOIN_S = 5.0


class Waiters:
    """A pool of such threads, which are started as needed.

    Parameters
    ----------
    limit
        The largest number of threads.
    ended
        Called in the waiter's thread with a process that has ended and is not reaped yet; returns the next process to
        wait for, or None after counting the waiter as idle.
    failed
        Called if `ended` raises.
    """

    def __init__(self, limit: int, ended: Callable[[Process], Process | None], failed: Callable[[], None]) -> None:
        self._limit = limit
        self._ended = ended
        self._failed = failed
        self._threads: list[threading.Thread] = []
        self._given: queue.SimpleQueue[Process | None] = queue.SimpleQueue()
        self.idle = 0

    def take(self, process: Process) -> bool:
        """Let a waiter wait for `process`; return False if none is free. The caller holds the agent's lock."""
        if self.idle:
            self.idle -= 1
        elif len(self._threads) < self._limit:
            before = threading.stack_size(_STACK_BYTES)
            try:
                thread = threading.Thread(target=self._run, name="waiter", daemon=True)
                thread.start()
            except RuntimeError:  # no more threads can be started: use the poll
                return False
            finally:
                threading.stack_size(before)
            self._threads.append(thread)
        else:
            return False
        self._given.put(process)
        return True

    def _run(self) -> None:
        # Signals are for the main thread; but a child's end, which the kernel says to the thread that has started it,
        # must stay ignored: if it is blocked here the kernel wakes another thread, each time, to ignore it there.
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals() - {signal.SIGCHLD})
        well = False
        try:
            while (process := self._given.get()) is not None:
                while process is not None:
                    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
                    process = self._ended(process)
            well = True
        finally:
            if not well:
                self._failed()

    def close(self) -> None:
        """End the threads. Their tasks must have ended."""
        for _ in self._threads:
            self._given.put(None)
        for thread in self._threads:
            thread.join(_JOIN_S)
