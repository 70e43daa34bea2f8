"""Requests of clients about pilots."""

from pilotmtc.model import Pilot, PilotDescription, PilotId
from pilotmtc.protocol.base import (
    CLIENTS,
    CLIENTS_AND_AGENTS,
    USER_ONLY,
    Changed,
    Effect,
    Execution,
    Handling,
    Reply,
    Request,
)
from pilotmtc.protocol.records import NodeState, Pace, RunningTask, Span


class Pilots(Reply, frozen=True):
    """The answer to `GetPilots` and `CreatePilot`."""

    pilots: tuple[Pilot, ...]


class CreatePilot(Request[Pilots], frozen=True, tag="create_pilot"):
    """Create a pilot. Safe to repeat: the client makes the `key`, and the same key gets the same pilot.

    The store's server submits a pilot that names a scheduler.
    """

    handling = Handling(said_by=CLIENTS, effect=Effect.DURABLE, repeat_key="key")

    key: str
    description: PilotDescription
    directory: str = ""


class DrainPilot(Request[Changed], frozen=True, tag="drain_pilot"):
    """Let the pilot finish its running tasks, take no new ones, and end. Safe to repeat."""

    handling = Handling(said_by=CLIENTS, effect=Effect.DURABLE)

    pilot: PilotId


class HoldPilot(Request[Changed], frozen=True, tag="hold_pilot"):
    """Let the pilot take no more tasks until it is released (`hold` False); it ends what it has. Safe to repeat."""

    handling = Handling(said_by=CLIENTS, effect=Effect.DURABLE)

    pilot: PilotId
    hold: bool = True


class CancelPilot(Request[Changed], frozen=True, tag="cancel_pilot"):
    """End the pilot now: its tasks are killed and go back to the store. Safe to repeat."""

    handling = Handling(said_by=CLIENTS, effect=Effect.DURABLE)

    pilot: PilotId


class GetPilots(Request[Pilots], frozen=True, tag="pilots"):
    """Get pilots, newest first; with `live` only those that have not ended; with `id` only that one."""

    handling = Handling(said_by=CLIENTS_AND_AGENTS, effect=Effect.READ, pilot_field="id", bulky_reply=True)

    id: PilotId | None = None
    live: bool = False


class PilotView(Reply, frozen=True):
    """The answer to `GetPilotView`.

    Attributes
    ----------
    pilot
        None if there is no such pilot.
    tasks
        The tasks that it holds; at most 20,000.
    events
        What has happened to it since the server started: ``(time, text)``.
    """

    now: float
    pilot: Pilot | None = None
    nodes: tuple[NodeState, ...] = ()
    tasks: tuple[RunningTask, ...] = ()
    events: tuple[tuple[float, str], ...] = ()
    pace: Pace | None = None


class GetPilotView(Request[PilotView], frozen=True, tag="pilot_view"):
    """Get everything about a pilot."""

    handling = Handling(said_by=CLIENTS, effect=Effect.READ, bulky_reply=True)

    pilot: PilotId


class Spans(Reply, frozen=True):
    """The answer to `GetSpans`.

    Attributes
    ----------
    next
        The `before` of the following page, 0 when this was the last.
    seq
        The next `since`.
    reset
        The server does not know what has ended since (it was restarted, or it is too long ago): these are the newest.
    """

    spans: tuple[Span, ...]
    next: int = 0
    seq: int = 0
    reset: bool = False


class GetSpans(Request[Spans], frozen=True, tag="spans"):
    """Get attempts of a pilot that have ended: when and where they ran.

    With `before`: those of tasks older than that one, newest first. With the `seq` of an earlier answer as `since`:
    those that have ended since then. With neither: those of the newest tasks. The server looks at a limited number of
    attempts, as for `GetTasks`.
    """

    handling = Handling(said_by=CLIENTS, effect=Effect.READ, bulky_reply=True)

    pilot: PilotId
    before: int = 0
    limit: int = 2000
    since: int = 0


class PilotFile(Reply, frozen=True):
    """The answer to `GetPilotFile`. `trouble` says why it cannot be read; `size` is of the whole file."""

    path: str
    data: bytes = b""
    size: int = 0
    trouble: str = ""


class GetPilotFile(Request[PilotFile], frozen=True, tag="pilot_file"):
    """Get the last `limit` bytes of a file in the pilot's directory on the store's host."""

    handling = Handling(said_by=USER_ONLY, effect=Effect.READ, execution=Execution.THREAD)

    pilot: PilotId
    name: str
    limit: int = 65_536
