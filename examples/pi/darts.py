"""Throw darts at the unit square: ``darts.py DARTS SEED`` prints ``DARTS,SEED,HITS``."""

import random
import sys


def hits(darts: int, seed: int) -> int:
    """Return how many of `darts` land inside the quarter circle."""
    throw = random.Random(seed).random
    return sum(throw() ** 2 + throw() ** 2 < 1 for _ in range(darts))


if __name__ == "__main__":
    darts, seed = int(sys.argv[1]), int(sys.argv[2])
    print(f"{darts},{seed},{hits(darts, seed)}")
