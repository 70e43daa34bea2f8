"""Keys one after the other: each meets what the one before it has done.

Textual gives a key to the widget with the focus at once, but runs the action of a key only after the key has gone up
to the app. Over a link that delivers several keys together, letters would overtake a Backspace, and what is typed
after the key that opens a form would never reach the form.
"""

from collections import deque
from time import monotonic

from textual.app import App
from textual.events import Event, Key, Paste
from textual.message import Message
from textual.screen import Screen

_LOST_S = 0.5  # a widget that is removed takes what is on its way with it: then the next key goes on
_HELD_S = 1.0  # how long an action may ask the store before it opens its window


class KeyDone(Message):
    """Follows a key on its way up to the app."""


class OrderedKeys(App[None]):
    """An app that handles each key, and opens the window that the key asks for, before it looks at the next one."""

    def __init__(self) -> None:
        super().__init__()
        self._waiting: deque[Event] = deque()
        self._follower: KeyDone | None = None  # of the key that is being handled
        self._since = 0.0
        self._pressed_on: Screen[object] | None = None
        self._held_until = 0.0  # by the monotonic clock

    def on_mount(self) -> None:
        """Give keys that were held to the window for which they were."""
        self.screen_change_signal.subscribe(self, lambda _: self.release_keys())

    def hold_keys(self) -> None:
        """Keep keys back: an action is about to open a window for them."""
        self._held_until = monotonic() + _HELD_S
        self.set_timer(_HELD_S, self._go_on)

    def release_keys(self) -> None:
        """Let keys go on: the window is there, or none will come."""
        if self._held_until:
            self._held_until = 0.0
            self.call_later(self._when_shown)

    async def on_event(self, event: Event) -> None:
        """Let keys wait for each other."""
        if not isinstance(event, Key | Paste) or event.is_forwarded:
            await super().on_event(event)
            return
        self._waiting.append(event)
        await self._go_on()

    async def _go_on(self) -> None:
        """Handle the next key unless one is being handled."""
        if not self._waiting or monotonic() < self._held_until:
            return
        if self._follower is not None and monotonic() - self._since < _LOST_S:
            return
        event = self._waiting.popleft()
        follower = self._follower = KeyDone()
        self._since = monotonic()
        screen = self._pressed_on = self.screen
        target = self.focused or screen
        await super().on_event(event)
        if not target.post_message(follower):
            await self._when_shown()
        self.set_timer(_LOST_S, self._go_on)

    def on_key_done(self, message: KeyDone) -> None:
        """Go on with the next key, after what the last one has left to be done."""
        message.stop()
        if message is self._follower:
            self.call_later(self._when_shown)

    async def _when_shown(self) -> None:
        """Handle the next key as soon as a new screen can take it."""
        if self.screen is self._pressed_on:
            await self._next()
        else:  # its focus is set by a callback of the app
            self.screen.call_after_refresh(self.call_later, self._next)

    async def _next(self) -> None:
        self._follower = None
        await self._go_on()
