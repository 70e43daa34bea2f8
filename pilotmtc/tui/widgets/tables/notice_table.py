"""What needs attention: what is new in at most three lines, and what was marked as seen on demand."""

from rich.text import Text
from textual.binding import Binding

from pilotmtc.session.look.overview import Board, Notice, notices
from pilotmtc.tui.widgets.cells import style
from pilotmtc.tui.widgets.tables.table import Cell, Table

LINES = 3
_LEVELS = {"bad": ("✗", "bold red"), "warn": ("!", "bold yellow"), "note": ("·", "")}


class NoticeTable(Table):
    """A table of what needs attention."""

    BINDINGS = [
        Binding("a", "screen.see", "Seen"),
        Binding("A", "screen.see_all", "All seen", show=False),
    ]

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 -- Textual's name
        super().__init__(("!", "NEEDS ATTENTION"), id=id)
        self.show_header = False  # its title says the same
        self.notices: dict[str, Notice] = {}

    def show_notices(self, board: Board, *, unfolded: bool) -> None:
        """Show what is new, and if it is `unfolded` also what was seen."""
        found = notices(board)
        self.notices = {notice.key: notice for notice in found}
        self.display = bool(found)
        seen = sum(notice.seen for notice in found)
        parts = [f"{len(found) - seen:,} new"] if len(found) > seen else []
        parts += [f"{seen:,} seen{'' if unfolded else ': z'}"] if seen else []
        self.border_title = f"Needs attention · {', '.join(parts)}"
        self.fill({one.key: _cells(one) for one in found if unfolded or not one.seen})

    @property
    def notice(self) -> Notice | None:
        """What the cursor is on."""
        return None if self.current is None else self.notices.get(self.current)


def _cells(notice: Notice) -> tuple[Cell, ...]:
    mark, look = ("·", "bright_black") if notice.seen else _LEVELS[notice.level]
    return Text(mark, style=style(look)), Text(notice.text, style=style(look))
