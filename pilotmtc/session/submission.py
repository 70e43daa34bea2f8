"""Sending a campaign to the store, some messages ahead of its answers."""

import collections
import concurrent.futures
import uuid
from collections.abc import Callable, Iterable

from pilotmtc.campaign.submit import TaskSpec, chunks
from pilotmtc.errors import UsageError
from pilotmtc.session.link import Link
from pilotmtc.session.tasks import TaskStream
from pilotmtc.wire.messages import Submit, Submitted

_AHEAD = 4


def new_key() -> str:
    """Return a key that nobody has used."""
    return uuid.uuid4().hex


def no_stop() -> bool:
    """Return that there is no reason to stop."""
    return False


def submit(
    link: Link,
    tasks: Iterable[TaskSpec],
    *,
    key: str,
    name: str = "",
    own_pilots: bool = False,
    on_submitted: Callable[[Submitted], None] | None = None,
    stop: Callable[[], bool] = no_stop,
) -> Submitted:
    """Submit `tasks` as the campaign `key` and return what the store has then.

    Parameters
    ----------
    on_submitted
        Is told after each message what the store has.
    stop
        Is asked after each message whether to leave it at that; the campaign is then not sealed.

    Raises
    ------
    UsageError
        If there is no task, or one cannot be.
    """
    ready = tasks.ready if isinstance(tasks, TaskStream) else None
    answers: collections.deque[concurrent.futures.Future[Submitted]] = collections.deque()
    have: Submitted | None = None

    def take() -> Submitted:
        answer = answers.popleft().result()
        if on_submitted is not None:
            on_submitted(answer)
        return answer

    for message in chunks(tasks, key=key, name=name, own_pilots=own_pilots, ready=ready):
        if message.last and not message.rows and not message.offset:
            raise UsageError("there are no tasks: the source of parameters is empty")
        answers.append(link.send(message))
        # A slow producer's tasks are answered for while it thinks of the next one.
        while answers and (len(answers) >= _AHEAD or (ready is not None and not ready()) or answers[0].done()):
            have = take()
        if stop():
            break
    while answers:
        have = take()
    assert have is not None
    return have


def seal(link: Link, key: str, received: int) -> None:
    """Say that a campaign is complete as it is."""
    link.call(Submit(key=key, offset=received, last=True))
