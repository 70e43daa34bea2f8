"""What screens know of the program that they are a part of."""

from abc import abstractmethod
from collections.abc import Sequence

from textual.app import App

from pilotmtc.session.look.overview import Board
from pilotmtc.tui.gateway import Gateway


class Program(App[None]):
    """The program, as its screens see it.

    Attributes
    ----------
    gateway
        The way to the store.
    board
        What is known at a glance.
    heard_at
        When the last news came, by the monotonic clock; None before the first.
    trouble
        What is wrong, if it is more than a link that is down.
    """

    def __init__(self, gateway: Gateway) -> None:
        super().__init__()
        self.gateway = gateway
        self.board = Board()
        self.heard_at: float | None = None
        self.trouble = ""

    @abstractmethod
    def open_tasks(self, filter_: str) -> None:
        """Show the tasks that a filter finds."""

    @abstractmethod
    def open_task(self, task: int) -> None:
        """Show one task."""

    @abstractmethod
    def open_pilot(self, pilot: int) -> None:
        """Show one pilot."""

    @abstractmethod
    def page(self, files: Sequence[str]) -> None:
        """Show files in the user's pager, which has the terminal meanwhile."""
