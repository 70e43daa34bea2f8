"""Fault tolerance: workers are killed while they count primes, and all primes are counted once.

A call whose worker dies is made again, as ``retries`` says. So is what a node or a pilot takes along when it dies, and
that does not count as a retry. (Workers can be killed like this on your own machine only.)
"""

import os
import signal
from concurrent.futures import as_completed

from pilotmtc import PilotExecutor, Session

LIMIT, STEP, VICTIMS = 2_000_000, 25_000, 5


def count_primes(start: int) -> tuple[int, int]:
    """Return how many primes there are from `start` on, and which worker has counted them."""
    sieve = bytearray([1]) * STEP
    for factor in range(2, int((start + STEP) ** 0.5) + 1):
        first = max(factor * factor, -(-start // factor) * factor) - start
        sieve[first::factor] = bytes(len(range(first, STEP, factor)))
    return sum(sieve) - (2 if start == 0 else 0), os.getpid()


if __name__ == "__main__":
    total, killed = 0, set[int]()
    with PilotExecutor(retries=VICTIMS) as pool, Session() as session:
        futures = [pool.submit(count_primes, start) for start in range(0, LIMIT, STEP)]
        for future in as_completed(futures):
            primes, pid = future.result()
            total += primes
            if len(killed) < VICTIMS and pid not in killed:
                os.kill(pid, signal.SIGKILL)  # it is counting elsewhere by now
                killed.add(pid)
        tasks = session.tasks(ids=[future.task_id for future in futures if future.task_id])
        again = sum(task.attempt - 1 for task in tasks)
    print(f"{len(killed)} workers killed, {again} of {len(futures)} calls made again")
    print(f"found {total}, known 148933")
