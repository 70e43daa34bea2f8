"""How far a pool is: a bar on a terminal, a line that changes in a notebook, nothing anywhere else."""

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from pilotmtc.model import Campaign
from pilotmtc.states import TASK_FINAL
from pilotmtc.text.terminal import screen_width

if TYPE_CHECKING:
    from pilotmtc.text.progress import Progress

EVERY_S = 0.2
_QUICK_S = 0.5  # what is over by then is not worth a bar


class Shows(Protocol):
    """What a progress can be shown on."""

    def show(self, campaign: Campaign) -> None:
        """Show it."""

    def hide(self) -> None:
        """Let it be the last that is shown of this work."""


class PoolProgress:
    """Shows progress while calls are under way; from one thread."""

    def __init__(self, place: Shows) -> None:
        self._place = place
        self._busy_since: float | None = None
        self._shown = False

    def __call__(self, campaign: Campaign) -> None:
        """Show how far the calls are that `campaign` counts."""
        over = sum(n for state, n in campaign.counts.items() if state in TASK_FINAL)
        if over == campaign.received:
            self.finish(campaign)
            return
        now = time.monotonic()
        self._busy_since = self._busy_since or now
        if now - self._busy_since >= _QUICK_S:
            self._shown = True
            self._place.show(campaign)

    def finish(self, campaign: Campaign) -> None:
        """Show it for the last time."""
        self._busy_since = None
        if self._shown:
            self._shown = False
            self._place.show(campaign)
            self._place.hide()


def progress_of(wanted: bool | None) -> PoolProgress | None:
    """Return what shows the progress of a pool; None if nothing is to be shown, or nobody would see it.

    Parameters
    ----------
    wanted
        None: wherever it is in nobody's way, which it is where somebody types at Python's own prompt.
    """
    if wanted is False:
        return None
    display = _notebook()
    if display is None and (screen_width(sys.stderr) is None or (wanted is None and hasattr(sys, "ps1"))):
        return None
    from pilotmtc.text.progress import Progress  # most programs show none

    return PoolProgress(Progress(shared=True) if display is None else _Line(display, lambda: Progress(quiet=True)))


def _notebook() -> Any:
    """Return IPython's `display` if this is a notebook's kernel."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    if shell is None or type(shell).__name__ != "ZMQInteractiveShell":
        return None
    return ipython.display.display  # type: ignore[union-attr]  # it is there


class _Line:
    """A line in a notebook's output that changes."""

    def __init__(self, display: Any, make: "Callable[[], Progress]") -> None:
        self._display = display
        self._handle: Any = None
        self._make = make
        self._progress = make()

    def show(self, campaign: Campaign) -> None:
        """Show it below the cell that has begun the work."""
        over = sum(n for state, n in campaign.counts.items() if state in TASK_FINAL)
        text = Words(self._progress.line(campaign), over, campaign.received)
        if self._handle is None:
            self._handle = self._display(text, display_id=True)
        else:
            self._handle.update(text)

    def hide(self) -> None:
        """Let the next work have another line."""
        self._handle = None
        self._progress = self._make()


class Words:
    """What a notebook shows of a pool's progress."""

    def __init__(self, text: str, over: int, total: int) -> None:
        self._text = text
        self._over = over
        self._total = total

    def __repr__(self) -> str:
        return self._text

    def _repr_html_(self) -> str:
        import html

        return f'<progress value="{self._over}" max="{self._total}"></progress> {html.escape(self._text)}'
