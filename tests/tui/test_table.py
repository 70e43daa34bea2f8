"""The table that is told anew again and again."""

import asyncio

from textual.app import App, ComposeResult

from pilotmtc.tui.table import Table


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
