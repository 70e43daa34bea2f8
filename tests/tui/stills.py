"""What tests need that compare a screen with an approved picture of it."""

import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from textual._context import visible_screen_stack
from textual.pilot import Pilot

from pilotmtc.protocol.client.watch import GetOverview
from pilotmtc.tui.app import MtcApp
from tests.tui.driving import Driver
from tests.tui.fixed import FixedGateway
from tests.tui.fixed_pilot import from_near

Compare = Callable[..., bool]
Before = Callable[["Pilot[None]"], Awaitable[None]]
SMALL, MIDDLE, LARGE = (80, 24), (120, 40), (200, 60)


def app_with(overview: object, more: Mapping[type, Any] | None = None, trouble: str = "") -> MtcApp:
    """Return a screen whose store says `overview`, and for each type of request in `more` what stands there."""
    return MtcApp(FixedGateway({GetOverview: overview, **from_near(), **(more or {})}, trouble))


async def settled(pilot: "Pilot[None]") -> None:
    """Wait until the news is drawn."""
    app = pilot.app
    assert isinstance(app, MtcApp)
    while app.heard_at is None:
        await pilot.pause(0.01)
    app.heard_at = 0.0
    await at_rest(pilot)


async def at_rest(pilot: "Pilot[None]") -> None:
    """Wait until what is drawn stays as it is: layouts, scrolling and themes take their time on a busy machine."""
    app = pilot.app
    drawn: object = None
    same = 0
    until = time.monotonic() + 30.0
    while same < 3:
        assert time.monotonic() < until, "the screen does not come to rest"
        await pilot.pause(0.05)
        visible_screen_stack.set(app._background_screens)
        now = app.screen._compositor.render_strips()
        same = same + 1 if now == drawn else 0
        drawn = now


def shown(open_: Callable[[MtcApp], None], *steps: str | tuple[str, ...]) -> Before:
    """Return what opens a screen and takes `steps`: words to wait for, or keys to press."""

    async def before(pilot: "Pilot[None]") -> None:
        await settled(pilot)
        app = pilot.app
        assert isinstance(app, MtcApp)
        driver = Driver(app, pilot)
        open_(app)
        for step in steps:
            await (driver.see(step) if isinstance(step, str) else driver.press(*step))
        await at_rest(pilot)

    return before


def typed(text: str) -> list[str]:
    """Return the keys that write a text."""
    names = {" ": "space", ":": "colon", ">": "greater_than_sign", "=": "equals_sign"}
    return [names.get(char, char) for char in text]
