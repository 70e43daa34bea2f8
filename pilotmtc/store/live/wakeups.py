"""Which waiting requests to wake after a commit. Pure."""

from collections.abc import Iterable

from msgspec import Struct
from msgspec.structs import replace

from pilotmtc.model import PilotId


class Wakeup(Struct, frozen=True):
    """What to wake.

    Attributes
    ----------
    ready
        Claims: there may be tasks for them.
    orders
        Heartbeats of these pilots: there are orders for their agents.
    changed
        Clients that follow changes.
    schedulers
        URLs of schedulers to ask about pilots: at once if True, otherwise soon.
    """

    ready: bool = False
    orders: frozenset[PilotId] = frozenset()
    changed: bool = False
    schedulers: dict[str, bool] = {}


class Wakeups:
    """Collects what to wake until it is taken."""

    def __init__(self) -> None:
        self._committed = Wakeup()
        self._staged = Wakeup()

    @property
    def staged(self) -> Wakeup:
        """What to wake once what is not committed yet has been."""
        return self._staged

    def tasks_ready(self) -> None:
        """Wake claims: there may be tasks for them."""
        if not self._staged.ready:
            self._staged = replace(self._staged, ready=True)

    def changed(self) -> None:
        """Wake clients that follow changes."""
        if not self._staged.changed:
            self._staged = replace(self._staged, changed=True)

    def call(self, pilots: Iterable[PilotId]) -> None:
        """Wake heartbeats of these pilots: there are orders for their agents."""
        self._staged = replace(self._staged, orders=self._staged.orders.union(pilots))

    def ask_scheduler(self, url: str, *, at_once: bool) -> None:
        """Have a scheduler asked, unless `url` is empty."""
        if url:
            urgent = at_once or self._staged.schedulers.get(url, False)
            self._staged = replace(self._staged, schedulers=self._staged.schedulers | {url: urgent})

    def take(self) -> Wakeup:
        """Return what to wake for the commits since the last call."""
        taken, self._committed = self._committed, Wakeup()
        return taken

    def mark(self) -> Wakeup:
        """Return what is collected but not committed."""
        return self._staged

    def rewind(self, mark: Wakeup) -> None:
        """Go back to what was collected at `mark`."""
        self._staged = mark

    def commit(self) -> None:
        """Let `take` return what was collected."""
        old, new = self._committed, self._staged
        if new == Wakeup():
            return
        schedulers = {url: at_once or old.schedulers.get(url, False) for url, at_once in new.schedulers.items()}
        self._committed = Wakeup(
            old.ready or new.ready, old.orders | new.orders, old.changed or new.changed, old.schedulers | schedulers
        )
        self._staged = Wakeup()
