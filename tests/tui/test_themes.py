"""What can be read: all texts in all themes, and the names of colours in a terminal of few colours."""

import asyncio
from collections.abc import Iterator

import pytest
from rich.color import ColorSystem
from rich.segment import Segment
from textual._context import visible_screen_stack
from textual.color import Color
from textual.theme import BUILTIN_THEMES

from pilotmtc.tui.app import MtcApp
from pilotmtc.tui.widgets.cells import even
from pilotmtc.tui.widgets.palette import LEAST, contrast, terminal_theme, variables_of
from tests.tui.driving import Driver
from tests.tui.test_snapshots_tasks import app_of

_LINES = "─│┌┐└┘├┤┬┴╭╮╰╯▁▂▃▄▅▆▇█▉▊▋▌▍▎▏░▒▓▔▕▖▗▘▙▚▛▜▝▞▟▀▐━╸╺■·"  # which are no text


def texts(app: MtcApp) -> Iterator[Segment]:
    """Yield what is drawn, without blanks and lines."""
    visible_screen_stack.set(app._background_screens)
    for strip in app.screen._compositor.render_strips():
        for segment in strip:
            if segment.text.strip(" " + _LINES):
                yield segment


def faint(app: MtcApp) -> list[str]:
    """Return texts that are hard to read."""
    found = []
    for segment in texts(app):
        style = segment.style
        assert style is not None
        if style.color is None or style.bgcolor is None:
            found.append(f"{segment.text!r} has no colours of its own")
            continue
        ratio = contrast(Color.from_rich_color(style.color), Color.from_rich_color(style.bgcolor))
        if ratio < LEAST or style.dim:
            found.append(f"{app.theme}: {segment.text!r} has {ratio:.1f} ({style})")
    return found


def test_all_texts_of_all_themes_can_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("textual.constants.COLOR_SYSTEM", "truecolor")
    themes = [name for name, theme in BUILTIN_THEMES.items() if not theme.ansi]
    found: list[str] = []

    async def main() -> None:
        app = app_of()
        async with app.run_test(size=(100, 36)) as pilot:
            screen = Driver(app, pilot)
            await screen.see("● live", "higgs")
            for open_tasks in (False, True):
                if open_tasks:
                    app.open_tasks("")
                    await screen.see("scan")
                for theme in themes:
                    app.theme = theme
                    await pilot.pause()
                    await pilot.pause()
                    found.extend(faint(app))

    asyncio.run(main())
    assert not found, "\n".join(found[:20])


def test_colours_keep_their_names_in_a_terminal_of_sixteen() -> None:
    theme = BUILTIN_THEMES["textual-dark"]
    variables = {**theme.to_color_system().generate(), **theme.variables}
    for name in ("footer-foreground", "footer-key-foreground", "footer-description-foreground"):
        variables.setdefault(name, variables["foreground"])
    found = terminal_theme(variables_of(variables, dark=True), dark=True, few=True)
    for number in range(1, 7):
        colour = Color(*found.ansi_colors[number]).rich_color.downgrade(ColorSystem.STANDARD)
        assert colour.number in (number, number + 8), number


def test_joined_emoji_take_no_more_room_than_they_say() -> None:
    family, heart, flag = "\U0001f468\u200d\U0001f469\u200d\U0001f467", "\u2764\ufe0f", "\U0001f1e9\U0001f1ea"
    assert even(f"{family} {heart} {flag} \U0001f44d\U0001f3fd e\u0301") == (
        "\U0001f468\U0001f469\U0001f467 \u2764 DE \U0001f44d e\u0301"
    )
