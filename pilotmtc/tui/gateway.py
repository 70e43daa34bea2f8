"""The only way from the screen to the store. Nothing here blocks the screen."""

import asyncio
import concurrent.futures
import contextlib
import threading
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from pilotmtc.errors import ChannelClosed, LoginRefused, PilotMTCError
from pilotmtc.session import Session

T = TypeVar("T")
Answers = concurrent.futures.Future[list[str]]
Questioner = Callable[[Sequence[str], Sequence[bool], Answers], None]

_ANSWER_S = 110.0  # login nodes wait at most two minutes


class Gateway(Protocol):
    """What the screen needs from a store."""

    url: str
    site: str

    @property
    def trouble(self) -> str:
        """Why there is no connection now; empty while there is one, and while the first is being made."""
        ...

    async def open(self, question: Questioner) -> None:
        """Connect, anew if need be. `question` is called, in any thread, when a person has to be asked."""
        ...

    async def do(self, work: Callable[[Session], T]) -> T:
        """Return what `work` returns; it may block, for as long as the link is down."""
        ...

    def close(self) -> None:
        """Disconnect from the store."""
        ...


class SessionGateway:
    """A gateway to a session.

    Parameters
    ----------
    store, site
        As for `Session`.
    """

    def __init__(self, store: str | None, site: str) -> None:
        self.url = store or ""
        self.site = site
        self._store = store
        self._session: Session | None = None
        self._closed = False
        self._asking: set[Answers] = set()

    @property
    def trouble(self) -> str:
        """Why there is no connection now; empty while there is one, and while the first is being made."""
        return "" if self._session is None else self._session.trouble

    async def open(self, question: Questioner) -> None:
        """Connect, anew if need be. `question` is called, in any thread, when a person has to be asked."""

        def ask(prompts: Sequence[str], seen: Sequence[bool]) -> list[str]:
            answers: Answers = concurrent.futures.Future()
            self._asking.add(answers)
            try:
                question(prompts, seen, answers)
                return answers.result(_ANSWER_S)
            except TimeoutError as error:
                raise LoginRefused(f"{prompts[0].strip().rstrip(':')}: nobody answered") from error
            finally:
                answers.cancel()
                self._asking.discard(answers)

        if (before := self._session) is not None:
            self._session = None
            await _aside(before.close)
        session = await _aside(lambda: Session(self._store, site=self.site, patience_s=None, ask=ask))
        if self._closed:
            session.close()
            return
        self.url = session.url
        self._session = session

    async def do(self, work: Callable[[Session], T]) -> T:
        """Return what `work` returns; it may block, for as long as the link is down."""
        session = self._there()
        return await _aside(lambda: work(session))

    def close(self) -> None:
        """Disconnect from the store."""
        self._closed = True
        for answers in list(self._asking):
            with contextlib.suppress(concurrent.futures.InvalidStateError):  # it was just answered
                answers.set_exception(LoginRefused("the screen was closed"))
        if self._session is not None:
            self._session.close()

    def _there(self) -> Session:
        if self._session is None or self._closed:
            raise ChannelClosed("there is no connection to the store")
        return self._session


def _aside(work: Callable[[], T]) -> "asyncio.Future[T]":
    """Return a future for `work` in a daemon thread; an executor's thread would delay the end of the program."""
    future: concurrent.futures.Future[T] = concurrent.futures.Future()
    future.set_running_or_notify_cancel()

    def run() -> None:
        try:
            result = work()
        except (PilotMTCError, OSError, TimeoutError) as error:
            future.set_exception(error)
        except BaseException as error:
            future.set_exception(error)
            raise
        else:
            future.set_result(result)

    threading.Thread(target=run, name="screen-aside", daemon=True).start()
    return asyncio.wrap_future(future)
