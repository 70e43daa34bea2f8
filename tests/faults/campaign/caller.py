"""A client whose calls are to survive everything, itself too: it goes on with those that it has made before."""

import itertools
import os
import sys
import time

from pilotmtc import PilotExecutor

WIDTH = 7  # of a line of the log
_RETRIES = 20  # a call may be in a worker that is killed again and again


def square(x: int, log: str, last: int) -> int:
    """Return the square of `x`, and say in a log that it was called; the last one waits for the log's gate."""
    with open(log, "a", encoding="ascii") as file:
        file.write(f"{x:0{WIDTH - 1}}\n")
    if x % 7 == 0:  # what is killed is in the middle of something
        time.sleep(0.002)
    while x == last and not os.path.exists(f"{log}.gate"):
        time.sleep(0.02)
    return x * x


def main() -> None:
    """Print how many values are wrong."""
    path, log, number, pilots = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
    with PilotExecutor(
        2 if pilots == "own" else None, store=path, name="squares", resume=True, retries=_RETRIES, pilots=pilots,
        progress=False,
    ) as pool:  # fmt: skip
        values = pool.map(square, range(number), itertools.repeat(log), itertools.repeat(number - 1))
        print(sum(value != x * x for x, value in zip(range(number), values, strict=True)))


if __name__ == "__main__":
    main()
