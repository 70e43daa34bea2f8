"""Whether a node is to blame when tasks crash: it is if they all do there, and not on others. Pure."""

from pilotmtc.model import Result
from pilotmtc.states import Cause

CRASH_S = 2.0  # a task that ends badly sooner than that may have been killed by its node
_ROW = 5  # crashes one after the other on one node
_WELL = 10  # ends elsewhere meanwhile that were no crashes
_RATIO = 4  # of those to crashes elsewhere


def crashed(result: Result) -> bool:
    """Whether a task ended so badly and so soon that its node may be to blame."""
    if result.cause is Cause.LAUNCH_ERROR:
        return True
    badly = result.cause is Cause.SIGNAL or (result.cause is Cause.EXIT and result.exit_code != 0)
    return badly and result.elapsed_s < CRASH_S


class NodeHealth:
    """Keeps count of how tasks end, by node."""

    def __init__(self) -> None:
        self._well = 0
        self._crashes = 0
        self._rows: dict[str, tuple[int, int, int]] = {}  # crashes in a row; both counts when the row began

    def ended(self, node: str, crashed: bool) -> str:
        """Count a task that has ended; return what is wrong with its node, or nothing."""
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
            del self._rows[node]  # it is the tasks: start counting again
        return ""

    def forget(self, node: str) -> None:
        """Forget a node."""
        self._rows.pop(node, None)
