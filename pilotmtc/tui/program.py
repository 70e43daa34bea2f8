"""The interface of the app for its screens."""

from abc import abstractmethod
from collections.abc import Sequence

from pilotmtc.session.look.overview import Board
from pilotmtc.tui.gateway import Gateway
from pilotmtc.tui.key_order import OrderedKeys


class Program(OrderedKeys):
    """The app, from the point of view of its screens.

    Attributes
    ----------
    gateway
        The connection to the store.
    board
        The overview of the store.
    heard_at
        When the last overview came, by the monotonic clock; None before the first one.
    trouble
        What is wrong, unless it is only the connection.
    """

    def __init__(self, gateway: Gateway) -> None:
        super().__init__()
        self.gateway = gateway
        self.board = Board()
        self.heard_at: float | None = None
        self.trouble = ""

    @abstractmethod
    def open_tasks(self, filter_: str, *, write: bool = False) -> None:
        """Show the tasks of a filter, which the user goes on to `write`."""

    @abstractmethod
    def open_task(self, task: int) -> None:
        """Show one task."""

    @abstractmethod
    def open_pilot(self, pilot: int) -> None:
        """Show one pilot."""

    @abstractmethod
    def open_campaign(self, campaign: int) -> None:
        """Show one campaign."""

    @abstractmethod
    def open_report(self, campaign: int) -> None:
        """Show the report on one campaign."""

    @abstractmethod
    def page(self, files: Sequence[str]) -> None:
        """Show files in the user's pager, which uses the terminal meanwhile."""
