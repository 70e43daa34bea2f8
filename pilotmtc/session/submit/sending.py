"""Sends a campaign to the store, some messages ahead of the answers."""

import collections
import concurrent.futures
import threading
import uuid
from collections.abc import Callable, Iterable

from pilotmtc.campaign.outputs import apart
from pilotmtc.campaign.submit import NO_OPTIONS, CampaignOptions, Packer, TaskSpec
from pilotmtc.errors import PilotMTCError, UsageError
from pilotmtc.protocol.client.campaigns import Submit, Submitted
from pilotmtc.session.link import StoreLink
from pilotmtc.session.look.follow import ids_of
from pilotmtc.session.submit.programs import Programs

_AHEAD = 4
_FLUSH_S = 0.05


def new_key() -> str:
    """Return a new, unique key."""
    return uuid.uuid4().hex


def no_stop() -> bool:
    """Return False: never stop."""
    return False


def submit(
    link: StoreLink,
    tasks: Iterable[TaskSpec],
    *,
    key: str,
    name: str = "",
    own_pilots: bool = False,
    options: CampaignOptions = NO_OPTIONS,
    offset: int = 0,
    on_submitted: Callable[[Submitted], None] | None = None,
    stop: Callable[[], bool] = no_stop,
    programs: Programs | None = None,
) -> Submitted:
    """Submit `tasks` as the campaign `key`; return the campaign in the store.

    Tasks are sent after at most 50 ms, even if the next one takes longer: its producer may be slow, or may wait for the
    results of earlier tasks.

    Parameters
    ----------
    options
        Those of the campaign, if it is new.
    offset
        Number of tasks that the campaign has already, before `tasks`.
    on_submitted
        Called after each message with the campaign so far, perhaps by another thread.
    stop
        Called after each message; returns whether to stop there, without completing the campaign.
    programs
        Has looked at programs already.

    Raises
    ------
    UsageError
        If there is no task, if one is invalid, or if there is no campaign that it should wait for.
    """
    after = ids_of(link, options.after)
    packer = Packer(key=key, name=name, own_pilots=own_pilots, options=options, after=after, offset=offset)
    with _Sender(link, packer, on_submitted, programs or Programs(link)) as sender:
        stopped = False
        add, lock = packer.add, sender.lock  # this loop runs a million times
        for task in apart(tasks):
            with lock:
                if add(task):
                    sender.send(packer.take())
                elif not sender.flushed:
                    continue
                sender.flushed = False
            if stopped := stop():
                break
        with sender.lock:
            rest = packer.take(last=not stopped)
            if not (stopped or rest.rows or rest.offset):
                raise UsageError("there are no tasks: the source of parameters is empty")
            if rest.rows or rest.last:
                sender.send(rest)
        return sender.finish()


class _Sender:
    """Sends messages, some ahead of their answers; and from time to time an incomplete one."""

    def __init__(
        self, link: StoreLink, packer: Packer, tell: Callable[[Submitted], None] | None, programs: Programs
    ) -> None:
        self.lock = threading.Lock()  # guards the packer, and the order of messages
        self.flushed = False  # whether tasks were added since the last look
        self._link = link
        self._packer = packer
        self._tell = tell
        self._answers: collections.deque[concurrent.futures.Future[Submitted]] = collections.deque()
        self._have: Submitted | None = None
        self._programs = programs
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._flush, name="submission-flush", daemon=True)

    def __enter__(self) -> "_Sender":
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._over.set()
        self._thread.join()

    def send(self, message: Submit) -> None:
        """Send a message as soon as few enough messages wait for answers."""
        while self._answers and (len(self._answers) >= _AHEAD or self._answers[0].done()):
            self._take()
        self._answers.append(self._link.send(self._programs.seen(message)))

    def finish(self) -> Submitted:
        """Wait until the store has everything; return the campaign."""
        with self.lock:
            while self._answers:
                self._take()
            assert self._have is not None
            return self._have

    def _take(self) -> None:
        self._have = self._answers[0].result()  # an error is kept for the submitting thread
        self._answers.popleft()
        if self._tell is not None:
            self._tell(self._have)

    def _flush(self) -> None:
        while not self._over.wait(_FLUSH_S):
            with self.lock:
                try:
                    while self._answers and self._answers[0].done():
                        self._take()
                    if self._packer.rows and len(self._answers) < _AHEAD:
                        self._answers.append(self._link.send(self._programs.seen(self._packer.take())))
                        self.flushed = True
                except PilotMTCError:  # the submitting thread sees it with its next message, or at the end
                    return


def seal(link: StoreLink, key: str, received: int) -> None:
    """Complete a campaign with the tasks that it has."""
    link.call(Submit(key=key, offset=received, last=True))
