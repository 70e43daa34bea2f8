"""Keys one after the other: each meets what the one before it has done.

Textual gives a key to the widget with the focus at once, but runs the action of a key only after the key has gone up
to the app. Over a link that delivers several keys together, letters would overtake a Backspace, and what is typed
after the key that opens a form would never reach the form.
"""

from collections import deque

from textual.app import App
from textual.events import Event, Key, Paste
from textual.message import Message
from textual.message_pump import MessagePump
from textual.screen import Screen

# Time is counted in ticks of the app's own loop: while a busy machine stops it, no key is lost and no window is late.
_TICK_S = 0.25
_LOST = 2  # ticks: a widget that was removed has taken what was on its way with it, and the next key goes on
_GIVEN_UP = 20  # ticks after which the next key goes on in any case
_HELD = 12  # ticks for which an action may ask the store before it opens its window


class KeyDone(Message):
    """Follows a key on its way up to the app."""


class OrderedKeys(App[None]):
    """An app that handles each key, and opens the window that the key asks for, before it looks at the next one."""

    def __init__(self) -> None:
        super().__init__()
        self._waiting: deque[Event] = deque()
        self._follower: KeyDone | None = None  # of the key that is being handled
        self._target: MessagePump | None = None  # which has been given that key
        self._waited = 0  # ticks since then
        self._pressed_on: Screen[object] | None = None
        self._held = 0  # ticks for which keys are still kept back
        self._ticking = False

    def on_mount(self) -> None:
        """Give keys that were held to the window for which they were."""
        self.screen_change_signal.subscribe(self, lambda _: self.release_keys())

    def hold_keys(self) -> None:
        """Keep keys back: an action is about to open a window for them."""
        self._held = _HELD
        self._begin_ticking()

    def release_keys(self) -> None:
        """Let keys go on: the window is there, or none will come."""
        if self._held:
            self._held = 0
            self._wait_for(KeyDone(), self)  # which nobody sends: the window is not ready for keys yet
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
        if not self._waiting or self._held or self._follower is not None:
            return
        event = self._waiting.popleft()
        follower = KeyDone()
        screen = self._pressed_on = self.screen
        target = self.focused or screen
        self._wait_for(follower, target)
        await super().on_event(event)
        if not target.post_message(follower):
            await self._when_shown()

    def _wait_for(self, follower: KeyDone, target: MessagePump) -> None:
        self._follower, self._target, self._waited = follower, target, 0
        self._begin_ticking()

    def _begin_ticking(self) -> None:
        if not self._ticking:
            self._ticking = True
            self.set_timer(_TICK_S, self._tick)

    async def _tick(self) -> None:
        """Let keys go on if what they wait for does not come."""
        self._ticking = False
        self._held = max(self._held - 1, 0)
        if self._follower is not None:
            self._waited += 1
            is_lost = self._target is None or not self._target.is_running
            if self._waited >= (_LOST if is_lost else _GIVEN_UP):
                self._follower = None
        if self._held or self._follower is not None:
            self._begin_ticking()
        await self._go_on()

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
