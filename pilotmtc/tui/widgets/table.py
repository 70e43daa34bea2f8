"""A table that is filled again and again, and draws only what has changed."""

from collections.abc import Mapping, Sequence

from rich.text import Text
from textual.widgets import DataTable

Cell = str | Text


class Table(DataTable[Cell]):
    """A table with rows by key and a row cursor; `columns` are its titles."""

    def __init__(self, columns: Sequence[Cell], *, id: str | None = None) -> None:  # noqa: A002 -- Textual's name
        super().__init__(id=id, cursor_type="row", cursor_foreground_priority="renderable")
        self._titles = columns
        self._rows: dict[str, tuple[Cell, ...]] = {}
        self._measured = True

    def on_mount(self) -> None:
        """Add the columns."""
        for index, title in enumerate(self._titles):
            self.add_column(title, key=str(index))

    def fill(self, rows: Mapping[str, Sequence[Cell]]) -> None:
        """Show `rows`, which are by key, in their order; the cursor stays on its row."""
        fresh = {key: tuple(cells) for key, cells in rows.items()}
        if fresh == self._rows and list(fresh) == list(self._rows):
            return
        self._measured = False
        if list(fresh)[: len(self._rows)] == list(self._rows):
            for key, cells in fresh.items():
                before = self._rows.get(key)
                if before is None:
                    self.add_row(*cells, key=key)
                elif before != cells:
                    self._update(key, before, cells)
        else:
            at, place = self.current, self.cursor_row
            scroll = self.scroll_offset
            self.clear()
            for key, cells in fresh.items():
                self.add_row(*cells, key=key)
            if fresh:
                self.move_cursor(row=list(fresh).index(at) if at in fresh else min(place, len(fresh) - 1), scroll=False)
                self.scroll_to(scroll.x, scroll.y, animate=False)
        self._rows = fresh

    def _update(self, key: str, before: tuple[Cell, ...], cells: tuple[Cell, ...]) -> None:
        for index, (old, new) in enumerate(zip(before, cells, strict=True)):
            if old != new:
                self.update_cell(key, str(index), new, update_width=True)

    def on_idle(self) -> None:
        """Draw cells again that Textual has cached before it measured their columns, which it does now."""
        if not self._measured:
            self._measured = True
            self.call_next(self._draw_if_wider, self._widths())

    def _draw_if_wider(self, before: list[int]) -> None:
        if self._widths() != before:
            self.notify_style_update()  # clears the cache

    def _widths(self) -> list[int]:
        return [column.get_render_width(self) for column in self.columns.values()]

    @property
    def current(self) -> str | None:
        """The key of the row under the cursor."""
        if not self._rows or not self.is_valid_row_index(self.cursor_row):
            return None
        return self.coordinate_to_cell_key(self.cursor_coordinate).row_key.value

    @property
    def shown(self) -> Mapping[str, tuple[Cell, ...]]:
        """The rows, by key."""
        return self._rows

    @property
    def keys(self) -> list[str]:
        """The keys of all rows."""
        return list(self._rows)
