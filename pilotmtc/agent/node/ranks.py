"""The ranks of a wide task on one node: starts them, waits for them, ends all when one ends badly.

``python -I -S ranks.py FIRST CORES:GPUS;CORES:GPUS;... [bind|""] COMMAND...``. GPUS are the assignments of variables
that name the rank's GPUs. All ranks are in this process's group, so that whoever ends the group ends them.

It imports the standard library alone, for it takes a slot's time; so it reads lists of cores by itself, see
`tests/unit/system/test_copies.py`.
"""

import os
import signal
import sys
import time

_GRACE_S = 5.0
_STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


def cores_of(text: str) -> "list[int]":
    """Return the numbers that ``0-3,8`` means."""
    found: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    return found


def main(argv: "list[str]") -> int:
    """Run them; return the exit code of the first that ends badly, or die by its signal."""
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
    while running:  # once stopped, they have all the time that they are given: whoever stopped them ends it
        pid, status = os.wait()
        running.discard(pid)
        if status and not stopping:
            return end(running, os.waitstatus_to_exitcode(status))
        code = code or os.waitstatus_to_exitcode(status)
    return end(running, code)


def end(running: "set[int]", code: int) -> int:
    """TERM to what runs, KILL after a grace; then end as `code` says."""
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
