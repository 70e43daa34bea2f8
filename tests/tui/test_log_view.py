"""The view of outputs, by its keys."""

import asyncio

from textual.app import App, ComposeResult

from pilotmtc.tui.widgets.log_lines import Lines
from pilotmtc.tui.widgets.log_view import LogView, Pages


class _Alone(App[None]):
    def compose(self) -> ComposeResult:
        yield LogView()


def test_reader_stays_where_he_is_and_is_told_what_came() -> None:
    async def main() -> None:
        app = _Alone()
        async with app.run_test(size=(60, 12)) as pilot:
            view, pages, lines = app.query_one(LogView), app.query_one(Pages), Lines()
            lines.append(b"".join(b"line %d\n" % number for number in range(1, 101)))

            def title() -> str:
                return str(view.query(".log-title").first().render())

            def rows() -> str:
                return "\n".join(pages.render_line(y).text.rstrip() for y in range(pages.size.height))

            view.show("it runs", [("stdout", lines)], 1, live=True)
            view.begin()
            await pilot.pause()
            assert "line 100" in rows()
            assert "follows" in title()
            await pilot.press("k", "k", "k")
            await pilot.pause()
            before = rows()
            lines.append(b"more\n" * 42)
            view.show("it runs", [("stdout", lines)], 1, live=True)
            await pilot.pause()
            assert rows() == before
            assert "paused, +42 lines" in title()
            await pilot.press("G")
            await pilot.pause()
            assert "142 more" in rows()
            assert "follows" in title()
            await pilot.press("g", "slash", *"E 7", "enter")
            await pilot.pause()
            assert rows().lstrip().startswith("7 line 7")
            await pilot.press("n")
            await pilot.pause()
            assert rows().lstrip().startswith("70 line 70")
            await pilot.press("N")
            await pilot.pause()
            assert rows().lstrip().startswith("7 line 7")
            lines.append(b"x" * 200 + b"\n")
            view.show("it ran", [("stdout", lines)], 1)
            await pilot.press("w", "G")
            await pilot.pause()
            assert sum("xxxx" in row for row in rows().splitlines()) == 4  # 200 characters

    asyncio.run(main())
