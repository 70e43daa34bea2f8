"""How fast tasks end, and so how many to claim ahead. Pure."""

import math

CLAIM_MAX = 4096
LATENCY_FLOOR_S = 0.1
RATE_WINDOW_S = 0.5


class Rates:
    """The recent number of tasks per second, and how long the store takes to answer."""

    def __init__(self, start: float) -> None:
        self._latency_s = 0.0
        self._count = 0.0  # a decaying number of ends
        self._counted_at = start
        self._counting_since = start

    def ended(self, now: float) -> None:
        """Count a task that has ended."""
        gap = now - self._counted_at
        if gap > 20 * RATE_WINDOW_S:
            self._count = 0.0
            self._counting_since = now - gap
        self._count = self._count * math.exp(-gap / RATE_WINDOW_S) + 1.0
        self._counted_at = now

    def answered(self, latency_s: float) -> None:
        """Note how long an answer took."""
        self._latency_s += (latency_s - self._latency_s) * 0.2

    def rate(self, now: float) -> float:
        """Return the number of tasks that end per second."""
        age = now - self._counting_since
        if age <= 0 or not self._count:
            return 0.0
        recent = self._count * math.exp((self._counted_at - now) / RATE_WINDOW_S)
        return recent / (RATE_WINDOW_S * -math.expm1(-max(age, 0.002) / RATE_WINDOW_S))

    def backlog(self, now: float) -> int:
        """Return how many tasks to claim ahead, so that no slot waits for the connection.

        None for slow tasks, because another pilot may have free slots for them.
        """
        ahead = self.rate(now) * 2.0 * max(self._latency_s, LATENCY_FLOOR_S)
        return min(math.ceil(ahead), CLAIM_MAX) if ahead > 0.04 else 0
