"""State in memory that takes part in the transactions of the file."""

from collections.abc import Callable
from typing import Protocol, TypeVar

M = TypeVar("M")


class Participant(Protocol[M]):
    """State in memory that changes together with the file.

    A transaction takes a mark when it begins, and another one before each of its requests. It commits everything, or it
    undoes everything after a mark.
    """

    def mark(self) -> M:
        """Return a mark for `rewind`."""
        ...

    def rewind(self, mark: M) -> None:
        """Undo everything after `mark`. The file has been rolled back already."""
        ...

    def commit(self) -> None:
        """Make everything since the last commit final. The file has been committed already."""
        ...


class Staged:
    """A participant whose changes are made, and seen, only with the commit."""

    def __init__(self) -> None:
        self._staged: list[Callable[[], object]] = []

    def mark(self) -> int:
        """Return the number of waiting changes."""
        return len(self._staged)

    def rewind(self, mark: int) -> None:
        """Forget the changes after `mark`."""
        del self._staged[mark:]

    def commit(self) -> None:
        """Make the waiting changes, in order."""
        for change in self._staged:
            change()
        self._staged.clear()
