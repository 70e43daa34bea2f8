"""What is kept in memory takes part in the transactions of the file."""

from collections.abc import Callable
from typing import Protocol, TypeVar

M = TypeVar("M")


class Participant(Protocol[M]):
    """Something in memory that changes with the file.

    A transaction takes a mark when it begins and another one before each of its requests. Either all of it is
    committed, or everything that came after a mark is undone.
    """

    def mark(self) -> M:
        """Return the present place; `rewind` comes back to it."""
        ...

    def rewind(self, mark: M) -> None:
        """Undo what came after `mark`. The file has been rolled back already."""
        ...

    def commit(self) -> None:
        """Make everything since the last commit final. The file has been committed already."""
        ...


class Staged:
    """A participant whose changes wait for the commit: until then, nobody sees them."""

    def __init__(self) -> None:
        self._staged: list[Callable[[], object]] = []

    def mark(self) -> int:
        """Return how many changes wait."""
        return len(self._staged)

    def rewind(self, mark: int) -> None:
        """Forget the changes after `mark`."""
        del self._staged[mark:]

    def commit(self) -> None:
        """Make the changes that wait, in order."""
        for change in self._staged:
            change()
        self._staged.clear()
