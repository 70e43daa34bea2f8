"""Keys that arrive together."""

import asyncio
import time
from collections.abc import Sequence

import pytest
from textual import events
from textual.widgets import Button, Input

from pilotmtc.tui import key_order
from pilotmtc.tui.actions.tasks import TaskActions
from pilotmtc.tui.app import MtcApp
from pilotmtc.tui.widgets.windows.dialogs import Confirm, Form
from tests.tui.driving import Driver
from tests.tui.fixed import running
from tests.tui.fixed_tasks import failed
from tests.tui.stills import app_with
from tests.tui.test_snapshots_tasks import app_of


def send(app: MtcApp, keys: Sequence[str]) -> None:
    """Send keys as a slow link does: all at once."""
    for key in keys:
        app.post_message(events.Key(key, key if len(key) == 1 else None))


def fields(app: MtcApp) -> list[str]:
    """Return what is in the fields of the form, if there is one by now."""
    return [field.value for field in app.screen.query(Input)] if isinstance(app.screen, Form) else []


def test_letters_do_not_overtake_a_backspace_nor_leave_the_form_that_opens_for_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pilotmtc.tui.actions.pilots.usual_options", lambda site: {"site": "local"})
    for limit in ("_LOST", "_GIVEN_UP", "_HELD"):  # which a busy machine may need
        monkeypatch.setattr(key_order, limit, 1000)

    async def main() -> None:
        app = app_with(running())
        async with app.run_test(size=(80, 24)) as pilot:
            screen = Driver(app, pilot)
            await screen.see("● live")
            send(app, ["p", *"abc", "backspace", *"def", "tab", "ctrl+u", "2"])
            await screen.until(lambda: fields(app)[:2] == ["abdef", "2"])

    asyncio.run(main())


def test_keys_wait_for_a_form_that_asks_the_store_first(monkeypatch: pytest.MonkeyPatch) -> None:
    for limit in ("_LOST", "_GIVEN_UP", "_HELD"):  # which a busy machine may need
        monkeypatch.setattr(key_order, limit, 1_000_000)
    monkeypatch.setattr(key_order, "_TICK_S", 0.001)  # one comes between the form and its focus

    async def main() -> None:
        app = app_of(failed())
        async with app.run_test(size=(80, 24)) as pilot:
            screen = Driver(app, pilot)
            await screen.see("● live")
            app.open_tasks("")
            await screen.see("in order of id", "exit 137")
            assert isinstance(app.screen, TaskActions)
            send(app, ["e", "7"])
            await screen.until(lambda: fields(app)[:1] == ["7"])

    asyncio.run(main())


def test_answer_waits_for_its_question_while_the_machine_is_busy() -> None:
    async def main() -> None:
        app = app_of(failed())
        async with app.run_test(size=(80, 24)) as pilot:
            screen = Driver(app, pilot)
            await screen.see("● live")
            app.open_tasks("")
            await screen.see("in order of id", "exit 137")
            send(app, ["r"])
            await screen.see("Retry 1 task")
            await screen.until(lambda: isinstance(app.focused, Button))
            first = app.screen
            send(app, ["enter"])  # says no
            app.call_later(lambda: time.sleep(1.0))
            app.call_later(send, app, ["r"])
            await screen.until(lambda: isinstance(app.screen, Confirm) and app.screen is not first)

    asyncio.run(main())
