"""The client of a large array: ``python -m tests.bench.pools.large STORE BYTES MARK``.

It prints a line for each number: GiB, and GiB a second.
"""

import contextlib
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

from pilotmtc import PilotExecutor
from tests.support import processes_with

_GIB = float(1 << 30)
_PART = 1 << 17  # of float64: 1 MiB


def read(array: Any, meet: str) -> tuple[float, float, int]:
    """Read all of `array`, once the other worker is there too; return its seconds, the sum, and who has read it."""
    import numpy as np

    Path(meet, str(os.getpid())).touch()
    until = time.monotonic() + 60.0
    while len(os.listdir(meet)) < 2 and time.monotonic() < until:
        time.sleep(0.001)
    part = np.empty(_PART)
    began = time.perf_counter()
    for at in range(0, len(array), _PART):
        np.copyto(part[: len(array) - at], array[at : at + _PART])
    return time.perf_counter() - began, float(array[:: len(array) // 64].sum()), os.getpid()


class _Watch:
    """The memory of all processes with a mark but this one, time and again in a thread."""

    def __init__(self, mark: str) -> None:
        self._mark = mark
        self._over = threading.Event()
        self.peak = 0.0
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "_Watch":
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._over.set()
        self._thread.join(60.0)

    def _run(self) -> None:
        while not self._over.wait(0.1):
            self.peak = max(self.peak, self.now())

    def now(self) -> float:
        """Return GiB; pages that several processes share count once."""
        total = 0
        for pid in processes_with(self._mark):
            with contextlib.suppress(OSError):
                lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
                total += next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) * 1024
        return total / _GIB


def main() -> None:
    """Measure."""
    import numpy as np

    store, size, mark = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    array = np.random.default_rng(1).random(size // 8)
    copy = np.empty_like(array)
    copy[:] = 0.0  # its pages are there
    began = time.perf_counter()
    np.copyto(copy, array)
    memcpy_s = time.perf_counter() - began
    del copy
    expected = float(array[:: len(array) // 64].sum())
    meet = [Path(store).parent / f"meet{number}" for number in range(2)]
    for directory in meet:
        directory.mkdir()
    with PilotExecutor(2, store=store, progress=False) as pool, _Watch(mark) as watch:
        list(pool.map(time.sleep, [0.3] * 4))
        before = watch.now()
        began = time.perf_counter()
        value = pool.put(array)
        put_s = time.perf_counter() - began
        rates = []
        for directory in meet:
            found = [future.result(300) for future in [pool.submit(read, value, str(directory)) for _ in range(2)]]
            if any(total != expected for _, total, _ in found) or len({pid for _, _, pid in found}) != 2:
                raise RuntimeError(f"two workers should have found the sum {expected}: {found}")
            rates.append(min(size / seconds for seconds, _, _ in found) / _GIB)
        node = max(watch.peak, watch.now())
    own = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    print("memcpy", size / memcpy_s / _GIB)
    print("put", size / put_s / _GIB)
    print("first read", rates[0])
    print("second read", rates[1])
    print("node", node)
    print("before", before)
    print("client", int(own["VmHWM"].split()[0]) * 1024 / _GIB)


if __name__ == "__main__":
    main()
