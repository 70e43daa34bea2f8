"""The calls of the program whose campaign a pool goes on with: which call of now is which one of then."""

import collections
import hashlib
import threading
from typing import TypeAlias

from pilotmtc.executor.pickling.pickling import PickledCall, PickledFunction
from pilotmtc.model import CampaignId, TaskId
from pilotmtc.protocol.client.tasks import GetCalls, KnownCall
from pilotmtc.session.link import StoreLink

_Key: TypeAlias = tuple[str, bytes, tuple[TaskId, ...]]  # the function's name, arguments, inputs


class EarlierCalls:
    """Calls that the store has, each of which is found again once; first those that were made first.

    A function that its name tells from others is found by that, also if it was edited meanwhile; others, such as those
    that hold something, by their code.

    Attributes
    ----------
    left
        How many have not been found again.
    """

    def __init__(self, link: StoreLink, campaign: CampaignId) -> None:
        self.left = 0
        self._calls: dict[_Key, collections.deque[KnownCall]] = {}
        self._lock = threading.Lock()
        after = 0
        while True:
            page = link.call(GetCalls(campaign, after))
            for call in page.calls:
                key = call.function, call.args, call.inputs
                self._calls.setdefault(key, collections.deque()).append(call)
            self.left += len(page.calls)
            after = page.next
            if not after:
                return

    def take(self, function: PickledFunction, call: PickledCall) -> KnownCall | None:
        """Return the earlier one of a call; None if there is none."""
        inputs = tuple([need.task_id for need in call.inputs if need.task_id is not None])
        if len(inputs) < len(call.inputs):  # what is new needs nothing old, but not the other way round
            return None
        args = call.identity or _digest(call)
        with self._lock:
            calls = self._calls.get((function.name, args, inputs))
            if not calls:
                return None
            if function.fixed:
                found = calls.popleft()
            else:
                same = next((known for known in calls if known.code == function.blob.digest), None)
                if same is None:
                    return None
                calls.remove(same)
                found = same
            self.left -= 1
            return found


def _digest(call: PickledCall) -> bytes:
    return bytes.fromhex(call.args.digest) if call.args.digest else hashlib.sha256(call.args.data).digest()
