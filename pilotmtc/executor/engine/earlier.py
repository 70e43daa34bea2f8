"""The calls of the program whose campaign a pool goes on with: which call of now is which one of then."""

import collections
import hashlib
import logging
import threading
from typing import TypeAlias

from pilotmtc.executor.pickling.pickling import PickledCall, PickledFunction
from pilotmtc.model import CampaignId, TaskId
from pilotmtc.protocol.client.tasks import GetCalls, KnownCall
from pilotmtc.session.link import StoreLink
from pilotmtc.states import TASK_FINAL, TaskState

log = logging.getLogger(__name__)
BAD = TASK_FINAL - {TaskState.DONE}
_Key: TypeAlias = tuple[str, bytes, tuple[TaskId, ...]]  # the function's name, arguments, inputs


class EarlierCalls:
    """Calls that the store has, each of which is found again once; first those that were made first.

    A function that its name tells from others is found by that, also if it was edited meanwhile, which is told; others,
    such as those that hold something, by their code.

    Attributes
    ----------
    left
        How many have not been found again.
    """

    def __init__(self, link: StoreLink, campaign: CampaignId) -> None:
        self.left = 0
        self._campaign = campaign
        self._changed: set[str] = set()  # names of functions
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
            found = next((known for known in calls if known.code == function.blob.digest), None)
            if found is None and function.fixed:
                self._tell_changed(function.name)
                found = next((known for known in calls if known.state not in BAD), None)
                if found is None:  # it has failed in another version: it is made anew with the present one
                    calls.popleft()
                    self.left -= 1
            if found is None:
                return None
            calls.remove(found)
            self.left -= 1
            return found

    def _tell_changed(self, function: str) -> None:
        """Warn, once for each function, that results of another version are taken."""
        if function in self._changed:
            return
        self._changed.add(function)
        log.warning(
            "%s has changed, or was moved in its file, since campaign %d was made: what it has returned is of the "
            "earlier version, and only calls that have no result yet are made with the present one. For results of "
            "the present one, do not resume, or use another name",
            function, self._campaign,
        )  # fmt: skip


def _digest(call: PickledCall) -> bytes:
    return bytes.fromhex(call.args.digest) if call.args.digest else hashlib.sha256(call.args.data).digest()
