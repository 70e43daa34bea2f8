"""When a scheduler warns a pilot's job of the end of its walltime, and whether a signal is that warning. Pure."""

import math

from pilotmtc.model import PilotDescription

_SHARE = 0.1  # of the walltime, but at most:
_LONGEST_S = 120.0
_EARLY_S = 65.0  # SLURM may warn up to a minute early, as documented, and by another clock


def warning_s(description: PilotDescription) -> int:
    """Return how long before the end of its walltime to warn a pilot's job; 0: never."""
    if not description.walltime_s:
        return 0
    return int(description.signal_s or min(_SHARE * description.walltime_s, _LONGEST_S))


def drain_at(warn_at: float, now: float) -> float | None:
    """Return when to drain after a SIGTERM that came now, if it is the warning; None if it is not.

    Parameters
    ----------
    warn_at
        When the warning was requested; infinite: never.
    """
    if warn_at == math.inf or now < warn_at - _EARLY_S:
        return None
    return max(warn_at, now)
