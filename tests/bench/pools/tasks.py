"""What pools are given to call. A module of its own, which all workers can import."""

import os
import time


def same(x: int) -> int:
    """Return `x`: as little as a call can do."""
    return x


def wait(seconds: float) -> float:
    """Sleep; return how long that took on this machine."""
    began = time.perf_counter()
    time.sleep(seconds)
    return time.perf_counter() - began


def hold(gate: str) -> None:
    """Wait until a file is there, or two minutes."""
    until = time.monotonic() + 120.0
    while not os.path.exists(gate) and time.monotonic() < until:
        time.sleep(0.2)
