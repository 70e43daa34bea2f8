"""When a pilot's job is warned of the end of its walltime, and what a warning means that came at some time. Pure."""

import math

from pilotmtc.model import PilotDescription

_SHARE = 0.1  # of the walltime, but no longer than ...
_LONGEST_S = 120.0
_EARLY_S = 65.0  # SLURM warns up to a minute early, as it says itself, and its clock is not the agent's


def warning_s(description: PilotDescription) -> int:
    """Return how long before the end of its walltime a pilot's job is to be warned; 0 is never."""
    if not description.walltime_s:
        return 0
    return int(description.signal_s or min(_SHARE * description.walltime_s, _LONGEST_S))


def drain_at(warn_at: float, now: float) -> float | None:
    """Return when to drain after a TERM that came now, if it warns of the end of the walltime; None if it does not.

    Parameters
    ----------
    warn_at
        When the warning was wanted; infinite for never.
    """
    if warn_at == math.inf or now < warn_at - _EARLY_S:
        return None
    return max(warn_at, now)
