"""Runs the ranks of a wide task on one node: starts them, waits for them, and ends all if one fails.

``python -I -S ranks.py FIRST CORES:GPUS;CORES:GPUS;... [bind|""] COMMAND...``. GPUS are the assignments of variables
that name the rank's GPUs. All ranks are in this process's group, so that a signal to the group reaches them.

It imports only the standard library, because it uses time of the slot; so it has its own reader of core lists, see
`tests/unit/system/test_copies.py`.
"""

import os
import signal
import sys
import time

_GRACE_S = 5.0
_STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


def cores_of(text: str) -> "list[int]":
    """Return the numbers in a list such as ``0-3,8``."""
    found: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    return found


def main(argv: "list[str]") -> int:
    """Run the ranks; return the exit code of the first one that fails, or die by its signal."""
    first, slots, bind, *command = argv
    stopping: list[int] = []
    for number in _STOPPING:
        signal.signal(number, lambda number, frame: stopping.append(number))
    everywhere = os.sched_getaffinity(0)
    running: set[int] = set()
    for local, slot in enumerate(slots.split(";")):
        cores, _, gpus = slot.partition(":")
        env = dict(
            os.environ,
            PILOTMTC_RANK=str(int(first) + local),
            PILOTMTC_LOCAL_RANK=str(local),
            PILOTMTC_CORE_LIST=cores,
        )
        for each in gpus.split():
            variable, _, env[variable] = each.partition("=")
        if bind:
            os.sched_setaffinity(0, cores_of(cores))
        try:
            pid = os.posix_spawnp(command[0], command, env, setsigdef=[*_STOPPING, signal.SIGPIPE])
        except OSError as error:
            sys.stderr.write(f"{command[0]}: {error.strerror}\n")
            return end(running, 127)
        running.add(pid)
    os.sched_setaffinity(0, everywhere)
    code = 0
    while running:  # once stopped, they may take their time: whoever has stopped them also kills them
        pid, status = os.wait()
        running.discard(pid)
        if status and not stopping:
            return end(running, os.waitstatus_to_exitcode(status))
        code = code or os.waitstatus_to_exitcode(status)
    return end(running, code)


def end(running: "set[int]", code: int) -> int:
    """Send SIGTERM to all ranks, and SIGKILL after a grace; then end with `code`."""
    for number in (signal.SIGTERM, signal.SIGKILL) if running else ():
        for pid in running:
            os.kill(pid, number)
        until = time.monotonic() + _GRACE_S
        while running and (number == signal.SIGKILL or time.monotonic() < until):
            pid, _ = os.waitpid(-1, os.WNOHANG)
            running.discard(pid)
            if not pid:
                time.sleep(0.01)
    if code < 0:
        if -code != signal.SIGKILL:
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
