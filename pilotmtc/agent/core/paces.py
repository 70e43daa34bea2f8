"""How long calls of a function take, and so how many of them are started together. Pure."""

from pilotmtc.model import Claimed

BATCH_S = 0.005  # of work: enough to hide what the way to a worker and back costs, and no more
BATCH_MAX = 256
BATCH_BYTES = 64 << 10  # of arguments, behind the first call
_OVERHEAD_S = 15e-6  # what a worker takes for a call that does nothing
_LONGEST_S = 2 * BATCH_S  # longer calls are one like the other
_WEIGHT = 0.1
_GROWTH = 4  # calls in a batch, at the most, for each that was measured
_KINDS = 4096


class Pace:
    """How long the calls of a kind take.

    Attributes
    ----------
    batch
        How many of them make up a batch; 1 as long as that is unknown.
    """

    __slots__ = ("_ends", "_mean_s", "batch")

    def __init__(self) -> None:
        self._ends = 0
        self._mean_s = 0.0
        self.batch = 1

    def took(self, seconds: float) -> None:
        """Take in how long a call took."""
        seconds = min(seconds, _LONGEST_S)
        self._mean_s += (seconds - self._mean_s) * _WEIGHT if self._ends else seconds
        self._ends += 1
        self.batch = max(min(int(BATCH_S / (self._mean_s + _OVERHEAD_S)), BATCH_MAX, _GROWTH * self._ends), 1)

    def slow(self) -> None:
        """Note that a call has held up others: none is started with others until some have been quick."""
        self._mean_s = _LONGEST_S
        self.batch = 1


class Paces:
    """The paces of all kinds of calls: of a function, with what it needs."""

    def __init__(self) -> None:
        self._paces: dict[tuple[int, int], Pace] = {}

    def of(self, claimed: Claimed) -> Pace:
        """Return the pace of calls like this one."""
        key = claimed.template, claimed.resources
        pace = self._paces.get(key)
        if pace is None:
            if len(self._paces) >= _KINDS:
                self._paces.clear()
            pace = self._paces[key] = Pace()
        return pace
