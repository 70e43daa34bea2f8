"""The baseline in Python: what `spawn.c` does, with the output of each command read through two pipes.

No store, no limits, no clean-up. Prints the seconds that it took.
"""

import os
import sys
import time


def main() -> int:
    """Run the commands on stdin, one a line, at most so many at a time."""
    slots = int(sys.argv[1])
    lines = [line.split() for line in sys.stdin]
    null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    dup2 = os.POSIX_SPAWN_DUP2
    environment = dict(os.environ)
    running: dict[int, tuple[int, int]] = {}
    bad = printed = 0
    started = time.perf_counter()
    while lines or running:
        while lines and len(running) < slots:
            words = lines.pop()
            out, out_end = os.pipe2(os.O_CLOEXEC)
            err, err_end = os.pipe2(os.O_CLOEXEC)
            ends = [(dup2, null, 0), (dup2, out_end, 1), (dup2, err_end, 2)]
            pid = os.posix_spawn(words[0], words, environment, file_actions=ends)
            os.close(out_end)
            os.close(err_end)
            running[pid] = out, err
        ended = os.waitid(os.P_ALL, 0, os.WEXITED)
        assert ended is not None
        bad += ended.si_status != 0
        for fd in running.pop(ended.si_pid):
            printed += len(os.read(fd, 65536))
            os.close(fd)
    print(f"{time.perf_counter() - started:.6f}")
    return 1 if bad or printed else 0


if __name__ == "__main__":
    sys.exit(main())
