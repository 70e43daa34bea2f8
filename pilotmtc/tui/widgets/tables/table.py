"""A table that is filled again and again, and draws only what has changed."""

from collections.abc import Mapping, Sequence

from rich.text import Text
from textual.binding import Binding
from textual.events import Resize
from textual.widgets import DataTable

from pilotmtc.tui.widgets.cells import even

Cell = str | Text
_NARROWEST = 12  # of a column that is cut off


class Table(DataTable[Text]):
    """A table with rows by key and a row cursor.

    Columns are as wide as their content; those without content are not shown. If there is no room, flexible columns
    are cut off, with an ellipsis, and then spare ones left out.

    Parameters
    ----------
    columns
        The titles.
    flexible
        Which columns may be cut off, the first one first; by default the last one.
    spare
        Which columns may be left out, the first one first.
    """

    BINDINGS = [
        Binding("j", "cursor_down", "Down", show=False),
        Binding("k", "cursor_up", "Up", show=False),
        Binding("g", "scroll_top", "Top", show=False),
        Binding("G", "scroll_bottom", "Bottom", show=False),
        Binding("ctrl+d", "page_down", "Page down", show=False),
        Binding("ctrl+u", "page_up", "Page up", show=False),
        Binding("l", "select_cursor", "Open", show=False),
        Binding("h", "screen.back", "Back", show=False),
    ]

    def __init__(
        self, columns: Sequence[Cell], *, flexible: Sequence[int] = (), spare: Sequence[int] = (), id: str | None = None  # noqa: A002 -- Textual's name
    ) -> None:  # fmt: skip
        super().__init__(id=id, cursor_type="row", cursor_foreground_priority="renderable")
        self._titles = tuple([as_cell(title) for title in columns])
        self._flexible = flexible or (len(columns) - 1,)
        self._spare = spare
        self._rows: dict[str, tuple[Text, ...]] = {}
        self._drawn: tuple[int, ...] = ()  # the columns that are shown
        self._widths: tuple[int, ...] = ()

    def fill(self, rows: Mapping[str, Sequence[Cell]]) -> None:
        """Show `rows`, which are by key, in their order; the cursor stays on its row."""
        fresh = {key: tuple([as_cell(cell) for cell in cells]) for key, cells in rows.items()}
        if self._columns_of(fresh) and fresh == self._rows and list(fresh) == list(self._rows):
            return
        if list(fresh)[: len(self._rows)] == list(self._rows) and self.row_count == len(self._rows):
            for key, cells in fresh.items():
                before = self._rows.get(key)
                if before is None:
                    self.add_row(*self._seen(cells), key=key)
                elif before != cells:
                    self._update(key, before, cells)
        else:
            at, place = self.current, self.cursor_row
            scroll = self.scroll_offset
            self.clear()
            for key, cells in fresh.items():
                self.add_row(*self._seen(cells), key=key)
            if fresh:
                self.move_cursor(row=list(fresh).index(at) if at in fresh else min(place, len(fresh) - 1), scroll=False)
                self.scroll_to(scroll.x, scroll.y, animate=False)
        self._rows = fresh
        self._fit()

    def on_mount(self) -> None:
        """Add the columns."""
        self._columns_of(self._rows)
        self._fit()

    def on_resize(self, event: Resize) -> None:
        """Use the new width."""
        self._columns_of(self._rows)
        self._fit()

    def _room(self, columns: int) -> int:
        """Return how wide the content of so many columns may be."""
        return self.size.width - self.scrollbar_size_vertical - 2 * self.cell_padding * columns

    def _columns_of(self, rows: Mapping[str, Sequence[Text]]) -> bool:
        """Choose the columns that say something; return False if others were shown, which removes all rows."""
        drawn = tuple([at for at in range(len(self._titles)) if not rows or any(cells[at] for cells in rows.values())])
        least = {at: max([cells[at].cell_len for cells in (self._titles, *rows.values())]) for at in drawn}
        least.update({at: min(least[at], _NARROWEST) for at in self._flexible if at in least})
        for at in self._spare:
            if self.size.width and self._room(len(least)) < sum(least.values()):
                least.pop(at, None)
        drawn = tuple(least)
        if drawn == self._drawn:
            return True
        current = self.cursor_row, self.scroll_offset
        self._drawn, self._widths = drawn, ()
        self.clear(columns=True)
        for at in drawn:
            self.add_column(self._titles[at], key=str(at), width=self._titles[at].cell_len)
        for key, cells in self._rows.items():
            self.add_row(*self._seen(cells), key=key)
        if self._rows:
            self.move_cursor(row=current[0], scroll=False)
            self.scroll_to(current[1].x, current[1].y, animate=False)
        return False

    def _seen(self, cells: Sequence[Text]) -> list[Text]:
        return [cells[at] for at in self._drawn]

    def _update(self, key: str, before: Sequence[Text], cells: Sequence[Text]) -> None:
        for at in self._drawn:
            if before[at] != cells[at]:
                self.update_cell(key, str(at), cells[at])

    def _fit(self) -> None:
        """Make columns as wide as their content, and flexible ones narrower if there is no room."""
        if not self._drawn or not self.size.width:
            return
        lines = [self._titles, *self._rows.values()]
        widths = {at: max([cells[at].cell_len for cells in lines]) for at in self._drawn}
        room = self._room(len(widths))
        for at in reversed(self._flexible):
            if at in widths and (excess := sum(widths.values()) - room) > 0:
                widths[at] = max(widths[at] - excess, min(widths[at], _NARROWEST))
        if tuple(widths.values()) == self._widths:
            return
        self._widths = tuple(widths.values())
        for column, width in zip(self.ordered_columns, self._widths, strict=True):
            column.width = width
        self._require_update_dimensions = True
        self.notify_style_update()  # what was drawn for other widths is of no use

    @property
    def current(self) -> str | None:
        """The key of the row under the cursor."""
        if not self._rows or not self.is_valid_row_index(self.cursor_row):
            return None
        return self.coordinate_to_cell_key(self.cursor_coordinate).row_key.value

    @property
    def shown(self) -> Mapping[str, tuple[Text, ...]]:
        """The rows, by key."""
        return self._rows

    @property
    def keys(self) -> list[str]:
        """The keys of all rows."""
        return list(self._rows)


def as_cell(cell: Cell) -> Text:
    """Return a cell that stays on one line, and ends with an ellipsis if it is cut off."""
    text = Text(even(cell)) if isinstance(cell, str) else cell
    if not text.plain.isascii() and not text.spans:
        text.plain = even(text.plain)
    text.no_wrap, text.overflow, text.end = True, "ellipsis", ""
    return text
