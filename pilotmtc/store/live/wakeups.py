"""What commits have brought that requests wait for. Pure."""

from collections.abc import Iterable

from msgspec import Struct
from msgspec.structs import replace

from pilotmtc.model import PilotId


class Wakeup(Struct, frozen=True):
    """Whom to wake.

    Attributes
    ----------
    ready
        There may be tasks for claims that wait.
    orders
        Pilots with something to tell their agents.
    changed
        There is something new to watch.
    schedulers
        URLs of schedulers to ask about pilots: at once if True, else soon.
    """

    ready: bool = False
    orders: frozenset[PilotId] = frozenset()
    changed: bool = False
    schedulers: dict[str, bool] = {}


class Wakeups:
    """Gathers what transactions have brought until it is taken."""

    def __init__(self) -> None:
        self._committed = Wakeup()
        self._staged = Wakeup()

    def tasks_ready(self) -> None:
        """Note that claims may find something that they did not before."""
        if not self._staged.ready:
            self._staged = replace(self._staged, ready=True)

    def changed(self) -> None:
        """Note that there is something new to watch."""
        if not self._staged.changed:
            self._staged = replace(self._staged, changed=True)

    def call(self, pilots: Iterable[PilotId]) -> None:
        """Note that there is something to tell the agents of these pilots."""
        self._staged = replace(self._staged, orders=self._staged.orders.union(pilots))

    def ask_scheduler(self, url: str, *, at_once: bool) -> None:
        """Note that the scheduler has to be asked; nothing if `url` is empty."""
        if url:
            urgent = at_once or self._staged.schedulers.get(url, False)
            self._staged = replace(self._staged, schedulers=self._staged.schedulers | {url: urgent})

    def take(self) -> Wakeup:
        """Return what commits have brought since the last call."""
        taken, self._committed = self._committed, Wakeup()
        return taken

    def mark(self) -> Wakeup:
        """Return what is staged."""
        return self._staged

    def rewind(self, mark: Wakeup) -> None:
        """Stage what was staged at `mark`."""
        self._staged = mark

    def commit(self) -> None:
        """Add what is staged to what can be taken."""
        old, new = self._committed, self._staged
        if new == Wakeup():
            return
        schedulers = {url: at_once or old.schedulers.get(url, False) for url, at_once in new.schedulers.items()}
        self._committed = Wakeup(
            old.ready or new.ready, old.orders | new.orders, old.changed or new.changed, old.schedulers | schedulers
        )
        self._staged = Wakeup()
