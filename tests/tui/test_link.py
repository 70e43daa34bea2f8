"""The screen on a store behind a real OpenSSH server: the login's questions, and what a bad link does to it."""

import asyncio
import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from textual.widgets import Input

from pilotmtc.errors import LoginRefused
from pilotmtc.session import Session
from pilotmtc.tui import gateway
from pilotmtc.tui.app import MtcApp
from pilotmtc.tui.gateway import Questioner, T
from pilotmtc.tui.widgets.windows.dialogs import Form
from tests.integration.test_ssh import Place
from tests.integration.test_ssh_login import hotp, needs_accounts
from tests.lab.sshd import Client, Sshd, client, make_client, sshd
from tests.tui.driving import Driver, drive
from tests.tui.fixed import FixedGateway

__all__ = ["client", "sshd"]  # fixtures

SMALL = (80, 24)


@pytest.fixture
def there(sshd: Sshd, tmp_path: Path) -> Iterator[Place]:
    """A directory for a store on the other side."""
    place = Place(sshd, "mtc-store", f"{tmp_path.parent.name}-tui-{os.getpid()}")
    yield place
    place.remove()


# -- with a key ----------------------------------------------------------------------------------------------------


def test_tasks_and_pilots_are_steered_over_ssh(sshd: Sshd, client: Client, there: Place) -> None:
    url = client.url(sshd, there.url_path)
    with Session(url) as session:
        session.submit("test -e {}", [f"{there.path}/made-later"], name="late")
        session.submit("sleep 600", cores=1, name="long")
        pilot = session.pilots.submit(cores=2)

        async def script(screen: Driver) -> None:
            await screen.see("● live", "1 failed", "1 running", "ssh://", "late", "long", "▶ ACTIVE")
            await screen.press("t")
            await screen.see("✗ FAILED", "▶ RUNNING")
            (there.path / "made-later").touch()
            screen.table("tasks").focus()
            await screen.press("home", "r")
            await screen.see("Retry 1 task (id 1)", "Each runs again")
            await screen.press("y")
            await screen.see("✓ DONE")
            await screen.press("down", "c")
            await screen.see("Cancel 1 task (id 2)")
            await screen.press("y")
            await screen.see("⊘ CANCELED")
            await screen.press("escape")
            await screen.see("1 done", "1 canceled")
            await screen.press("d")
            await screen.see(f"Drain pilot {pilot.id}")
            await screen.press("y")
            await screen.see("✓ DONE")
            session.submit("echo {}", [1, 2, 3], name="third")
            await screen.see("3 ready", "no pilot is active")
            await screen.press("p")
            await screen.until(lambda: isinstance(screen.app.screen, Form))
            await screen.press("tab", "tab", "1", "tab", "1", "h", "tab", "1", "s", "ctrl+s")
            await screen.see("4 done")

        try:
            drive(url, script, (140, 40))
        finally:
            for each in session.pilots:
                session.pilots.cancel(each.id)
                session.pilots.wait(each.id, 30)
        assert [each.description.walltime_s for each in session.pilots.list(ended=True)] == [3600.0, 0.0]


# -- with a password and a one-time code -----------------------------------------------------------------------------


@pytest.fixture
def asking() -> Iterator[Sshd]:
    """A server that wants a password and a one-time code."""
    with Sshd(methods="keyboard-interactive", otp=True) as server:
        yield server


@pytest.fixture
def stranger(asking: Sshd, tmp_path: Path) -> Client:
    """Somebody without a key for it."""
    return make_client(tmp_path / "stranger", asking, allowed=False)


@pytest.fixture
def behind(asking: Sshd, tmp_path: Path) -> Iterator[Place]:
    """A directory for a store there."""
    place = Place(asking, "mtc-store", f"{tmp_path.parent.name}-tui-{os.getpid()}")
    yield place
    place.remove()


async def answer(screen: Driver, prompt: str, text: str) -> None:
    """Type an answer to the host's question; it must not be seen."""
    await screen.until(lambda: isinstance(screen.app.screen, Form) and prompt in screen.text())
    await screen.press(*text)
    await screen.until(lambda: screen.app.screen.query_one(Input).value == text)
    assert text not in screen.text()
    form = screen.app.screen
    await screen.press("enter")
    await screen.until(lambda: screen.app.screen is not form)


@needs_accounts
def test_login_asks_for_password_and_code(
    asking: Sshd, stranger: Client, behind: Place, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(0)
    password = asking.account.password

    async def script(screen: Driver) -> None:
        await screen.see("◌ connecting")
        await answer(screen, "(mtc-store@127.0.0.1", password)
        await answer(screen, "(OATH)", hotp(0))
        await screen.see("● live", "0 tasks")
        # A cut link costs a new code, but not the password again.
        asking.cut()
        await screen.see("○ NO LINK", "0 tasks")
        await answer(screen, "(OATH)", hotp(1))
        await screen.see("● live")

    drive(stranger.url(asking, behind.url_path), script, SMALL)
    assert asking.logins == 2
    assert password not in caplog.text
    assert hotp(0) not in caplog.text


@needs_accounts
def test_wrong_answer_is_said_and_asked_again(asking: Sshd, stranger: Client, behind: Place) -> None:
    async def script(screen: Driver) -> None:
        await answer(screen, "Password", asking.account.password)
        await answer(screen, "(OATH)", "000000")
        await screen.see("not accepted", "Password")
        await answer(screen, "Password", asking.account.password)
        await answer(screen, "(OATH)", hotp(0))
        await screen.see("● live")

    drive(stranger.url(asking, behind.url_path), script, SMALL)


@needs_accounts
def test_refused_login_is_tried_again_only_by_a_key(asking: Sshd, stranger: Client, behind: Place) -> None:
    async def script(screen: Driver) -> None:
        for _ in range(3):
            await answer(screen, "Password", "wrong")
            await answer(screen, "(OATH)", "000000")
        await screen.see("refuses the login", "Ctrl-R tries again")
        tried = asking.logins_tried
        await screen.press("t")
        await screen.see("tasks", "/ to filter")
        assert asking.logins_tried == tried
        await screen.press("escape", "ctrl+r")
        await answer(screen, "Password", asking.account.password)
        await answer(screen, "(OATH)", hotp(0))
        await screen.see("● live")

    drive(stranger.url(asking, behind.url_path), script, SMALL)


@needs_accounts
def test_login_is_given_up_and_begun_anew_on_a_cut_link(asking: Sshd, stranger: Client, behind: Place) -> None:
    async def script(screen: Driver) -> None:
        await screen.see("The store's host asks", "Password")
        form = screen.app.screen
        await screen.press("escape")
        await screen.see("the login was given up", "Ctrl-R tries again")
        await screen.until(lambda: screen.app.screen is not form)
        await screen.press("ctrl+r")
        await answer(screen, "Password", asking.account.password)
        await answer(screen, "(OATH)", hotp(0))
        await screen.see("● live", "0 tasks")
        asking.cut()
        await screen.see("(OATH)")
        form = screen.app.screen
        await screen.press("escape")
        await screen.see("the login was given up", "○ NO LINK", "0 tasks")
        await screen.until(lambda: screen.app.screen is not form)
        await screen.press("ctrl+r")
        await answer(screen, "Password", asking.account.password)
        await answer(screen, "(OATH)", hotp(1))
        await screen.see("● live")

    drive(stranger.url(asking, behind.url_path), script, SMALL)


@needs_accounts
def test_screen_is_left_while_the_login_asks(asking: Sshd, stranger: Client, behind: Place) -> None:
    async def script(screen: Driver) -> None:
        await screen.see("The store's host asks", "Password")

    drive(stranger.url(asking, behind.url_path), script, SMALL)


@needs_accounts
def test_question_that_nobody_answers_goes_away(
    asking: Sshd, stranger: Client, behind: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway, "_ANSWER_S", 0.5)

    async def script(screen: Driver) -> None:
        await screen.see("Password: nobody answered", "Ctrl-R tries again")
        await screen.until(lambda: not isinstance(screen.app.screen, Form))

    drive(stranger.url(asking, behind.url_path), script, SMALL)


# -- a bad link ------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def own(tmp_path: Path) -> Iterator[tuple[Sshd, Client, Place]]:
    """Give a server that may be stopped, somebody whom it lets in, and a directory for a store there."""
    with Sshd() as server:
        place = Place(server, "mtc-store", f"{tmp_path.parent.name}-own-{os.getpid()}")
        try:
            yield server, make_client(tmp_path / "client", server), place
        finally:
            place.remove()


def test_what_is_shown_outlasts_the_host_and_keys_have_their_effect_later(tmp_path: Path) -> None:
    with own(tmp_path) as (server, client, place), Session(client.url(server, place.url_path)) as session:
        session.submit("true", name="early")

        async def script(screen: Driver) -> None:
            await screen.see("● live", "1 ready", "early")
            server.stop()
            await screen.see("○ NO LINK, data of ", "cannot connect to 127.0.0.1", "1 ready", "early")
            await screen.press("t")
            await screen.see("○ NO LINK, data of ", "/ to filter")
            await screen.press("question_mark")
            await screen.see("Copy id", "Copy command")
            await screen.press("question_mark", "escape", "p")
            await screen.until(lambda: isinstance(screen.app.screen, Form))
            await screen.press("tab", "tab", "1", "tab", "1", "h", "tab", "1", "s", "ctrl+s")
            await screen.see("○ NO LINK, data of ", "1 ready")
            server.restart()
            await screen.see("● live", "1 done", timeout_s=60.0)
            assert "NO LINK" not in screen.text()
            logins = server.logins
            server.cut()
            session.submit("true", name="late")
            await screen.see("● live", "late", timeout_s=60.0)
            assert server.logins > logins

        try:
            drive(client.url(server, place.url_path), script)
        finally:
            for pilot in session.pilots:
                session.pilots.cancel(pilot.id)
                session.pilots.wait(pilot.id, 30)


# -- where there is nothing to be shown ------------------------------------------------------------------------------


def test_host_that_is_not_there_is_named_and_waited_for(tmp_path: Path) -> None:
    with own(tmp_path) as (server, client, place):
        server.stop()

        async def script(screen: Driver) -> None:
            await screen.see("○ NO LINK, no data yet", f"127.0.0.1, port {server.port}: Connection refused")
            await screen.press("t", "escape")
            await screen.see("overview")
            server.restart()
            await screen.see("● live", "0 tasks", timeout_s=60.0)

        drive(client.url(server, place.url_path), script, SMALL)


def test_unknown_host_is_not_talked_to_until_it_is_known(sshd: Sshd, there: Place, tmp_path: Path) -> None:
    client = make_client(tmp_path / "client", sshd, known=False)

    async def script(screen: Driver) -> None:
        await screen.see("○ NO LINK, no data yet", "known_hosts", "Ctrl-R tries again")
        client.known_hosts.write_text(sshd.known_hosts_line)
        await screen.press("ctrl+r")
        await screen.see("● live", "0 tasks")

    drive(client.url(sshd, there.url_path), script, SMALL)


def test_host_without_pilotmtc_is_told_from_a_bad_link(tmp_path: Path) -> None:
    with Sshd(launcher=False) as server:
        client = make_client(tmp_path / "client", server)

        async def script(screen: Driver) -> None:
            await screen.see("○ NO LINK, no data yet", "does not find pilotmtc", "?command=", "Ctrl-R tries again")

        drive(client.url(server), script, SMALL)


def test_store_that_may_not_be_read_is_named(sshd: Sshd, client: Client) -> None:
    async def script(screen: Driver) -> None:
        await screen.see("○ NO LINK, no data yet", "/root/secret.db.", "Permission denied", "Ctrl-R")

    drive(client.url(sshd, "/root/secret.db"), script, SMALL)


# -- keys at the wrong moment ----------------------------------------------------------------------------------------


class Refusing(FixedGateway):
    """Refuses each login, once it is told to."""

    def __init__(self) -> None:
        super().__init__({})
        self.refuse = asyncio.Event()
        self.opened = 0

    async def open(self, question: Questioner) -> None:
        self.opened += 1

    async def do(self, work: Callable[[Session], T]) -> T:
        await self.refuse.wait()
        raise LoginRefused("the login was given up")


def test_key_to_try_again_is_not_lost_when_pressed_before_the_refusal_has_arrived() -> None:
    async def main() -> None:
        gateway = Refusing()
        app = MtcApp(gateway)
        async with app.run_test(size=SMALL) as pilot:
            screen = Driver(app, pilot)
            await screen.until(lambda: gateway.opened == 1)
            gateway.trouble = "the login was given up"
            await screen.press("ctrl+r")
            gateway.refuse.set()
            await screen.until(lambda: gateway.opened == 2, timeout_s=20.0)

    asyncio.run(main())
