"""Memory: workers keep what a call has loaded, and the next calls find it.

The model is a table of the numbers up to a million, each with its smallest prime factor. It takes a while to make and
should not be made for each call. ``PilotExecutor(initializer=load)`` would make it before the first call.
"""

import os

from pilotmtc import PilotExecutor, worker

LIMIT, STEP = 1_000_000, 20_000


def load(limit: int) -> list[int]:
    """Make the table."""
    print(f"worker {os.getpid()} makes the table")  # in `pilotmtc logs` of the call that needed it
    worker.state.loads = getattr(worker.state, "loads", 0) + 1
    factor = list(range(limit + 1))
    for prime in range(2, int(limit**0.5) + 1):
        if factor[prime] == prime:
            for number in range(prime * prime, limit + 1, prime):
                factor[number] = min(factor[number], prime)
    return factor


def sum_totients(start: int) -> tuple[int, int, int]:
    """Sum Euler's function, which counts what is coprime to a number; return also the worker, and its loads."""
    factor = worker.cached(load, LIMIT)
    total = 0
    for number in range(start, start + STEP):
        left, totient = number, number
        while left > 1:
            prime = factor[left]
            totient -= totient // prime
            while left % prime == 0:
                left //= prime
        total += totient
    return total, os.getpid(), worker.state.loads


if __name__ == "__main__":
    with PilotExecutor() as pool:
        sums, pids, loads = zip(*pool.map(sum_totients, range(1, LIMIT, STEP)), strict=True)
    print(f"{len(sums)} calls on {len(set(pids))} workers, of which each has made the table {max(loads)} time")
    print(f"found {sum(sums)}, known 303963552392")
