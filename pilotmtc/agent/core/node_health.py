"""Whether a node is to blame for crashing tasks: it is if all crash there, but not on other nodes. Pure."""

from pilotmtc.model import Result
from pilotmtc.states import Cause

CRASH_S = 2.0  # a task that fails sooner than this may have been killed by its node
_ROW = 5  # consecutive crashes on one node
_WELL = 10  # ends without a crash on other nodes in the meantime
_RATIO = 4  # the least ratio of those to crashes on other nodes


def crashed(result: Result) -> bool:
    """Return whether a task failed so early and in such a way that its node may be to blame."""
    if result.cause is Cause.LAUNCH_ERROR:
        return True
    badly = result.cause is Cause.SIGNAL or (result.cause is Cause.EXIT and result.exit_code != 0)
    return badly and result.elapsed_s < CRASH_S


class NodeHealth:
    """Counts how tasks end on each node."""

    def __init__(self) -> None:
        self._well = 0
        self._crashes = 0
        self._rows: dict[str, tuple[int, int, int]] = {}  # consecutive crashes, and both counts at the first one

    def ended(self, node: str, crashed: bool) -> str:
        """Count a task that has ended; return what is wrong with its node, if anything."""
        if not crashed:
            self._well += 1
            self._rows.pop(node, None)
            return ""
        row, well, crashes = self._rows.get(node, (0, self._well, self._crashes))
        row += 1
        self._crashes += 1
        self._rows[node] = (row, well, crashes)
        well_elsewhere = self._well - well
        crashes_elsewhere = self._crashes - crashes - row
        if row >= _ROW and well_elsewhere >= _WELL and well_elsewhere >= _RATIO * crashes_elsewhere:
            return f"{row} tasks in a row crashed on it, while {well_elsewhere} on other nodes did not"
        if row >= _ROW and crashes_elsewhere > well_elsewhere:
            del self._rows[node]  # the tasks are to blame: count again
        return ""

    def forget(self, node: str) -> None:
        """Forget a node."""
        self._rows.pop(node, None)
