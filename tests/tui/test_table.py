"""The table that is told anew again and again."""

import asyncio

from textual.app import App, ComposeResult

from pilotmtc.tui.widgets.tables.table import Table
from pilotmtc.tui.widgets.tables.task_table import columns_for


class _Alone(App[None]):
    def compose(self) -> ComposeResult:
        yield Table(("A", "B"))


def test_what_was_drawn_before_its_column_was_wide_enough_is_drawn_anew() -> None:
    async def main() -> None:
        app = _Alone()
        async with app.run_test() as pilot:
            table = app.query_one(Table)
            table.fill({"1": ("short", "b")})
            await pilot.pause()
            table.fill({"1": ("much longer than before", "b")})
            table.render_line(1)  # as when the screen is drawn before the columns are measured
            await pilot.pause()
            assert "much longer than before" in table.render_line(1).text

    asyncio.run(main())


def test_columns_of_tasks_fit_every_screen() -> None:
    for width in range(50, 300):
        assert sum(each + 2 for _, each in columns_for(width)) + 3 + 1 <= width, width  # the marks, the scroll bar
