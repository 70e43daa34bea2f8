"""The screen, driven by keys as a user does, against a real store."""

import asyncio
import time
from collections.abc import Awaitable, Callable

from textual._context import visible_screen_stack
from textual.pilot import Pilot
from textual.widgets import Static

from pilotmtc.tui.app import MtcApp
from pilotmtc.tui.gateway import SessionGateway
from pilotmtc.tui.widgets.tables.table import Table
from pilotmtc.tui.widgets.windows.notice_list import Said
from tests.support import patience_s

Script = Callable[["Driver"], Awaitable[None]]


class Driver:
    """Presses keys, and looks at what is shown."""

    def __init__(self, app: MtcApp, pilot: "Pilot[None]") -> None:
        self.app = app
        self._pilot = pilot
        self._before: list[Said] = []  # notices before the last key: on a busy machine one goes before anybody looks

    async def press(self, *keys: str) -> None:
        self._before = self.app.said
        await self._pilot.press(*keys)

    async def until(self, pred: Callable[[], object], timeout_s: float = 60.0) -> None:
        """Wait until something is so."""
        until = time.monotonic() + patience_s(timeout_s)
        while not pred():
            assert time.monotonic() < until, f"still not so after {timeout_s:g} s; the screen:\n{self.text()}"
            await self._pilot.pause(0.02)

    async def see(self, *words: str, timeout_s: float = 60.0) -> None:
        """Wait until all `words` are on the screen, be it over two lines, or were in a notice since the last key."""

        def all_there() -> bool:
            text = self.text()
            new = [f"{one.title} {one.text}" for one in self.app.said if one not in self._before]
            said = [text, " ".join(text.split()), *new]
            dense = "".join(text.split())  # long words are broken over lines as well
            return all(any(word in one for one in said) or "".join(word.split()) in dense for word in words)

        await self.until(all_there, timeout_s)

    def text(self) -> str:
        """Return the screen as it is now."""
        # Without this a window would be drawn with nothing behind it, and stay so: Textual keeps what it has drawn.
        visible_screen_stack.set(self.app._background_screens)
        strips = self.app.screen._compositor.render_strips()
        return "\n".join(strip.text.rstrip() for strip in strips)

    def table(self, id_: str) -> Table:
        return self.app.screen.query_one(f"#{id_}", Table)

    def static(self, id_: str) -> str:
        return str(self.app.screen.query_one(f"#{id_}", Static).render())


def drive(store: str, script: Script, size: tuple[int, int] = (120, 40)) -> None:
    """Run the screen on `store` until `script` is over."""

    async def main() -> None:
        app = MtcApp(SessionGateway(store, "local"))
        async with app.run_test(size=size, notifications=True) as pilot:
            await script(Driver(app, pilot))

    asyncio.run(main())
