"""What clients say about pilots."""

from pilotmtc.model import Pilot, PilotDescription, PilotId
from pilotmtc.protocol.base import AGENTS, GUESTS, OWNER, Changed, Effect, Execution, Handling, Reply, Request
from pilotmtc.protocol.records import NodeState, Pace, RunningTask, Span


class Pilots(Reply, frozen=True):
    """The answer to `GetPilots`."""

    pilots: tuple[Pilot, ...]


class CreatePilot(Request[Pilots], frozen=True, tag="create_pilot"):
    """Enter a pilot. Safe to repeat: `key` is client-made; the same key answers the same pilot.

    One with a scheduler is submitted to it by the store's server.
    """

    handling = Handling(said_by=GUESTS, effect=Effect.DURABLE, repeat_key="key")

    key: str
    description: PilotDescription
    directory: str = ""


class DrainPilot(Request[Changed], frozen=True, tag="drain_pilot"):
    """Let the pilot finish what runs and leave. Safe to repeat."""

    handling = Handling(said_by=GUESTS, effect=Effect.DURABLE)

    pilot: PilotId


class CancelPilot(Request[Changed], frozen=True, tag="cancel_pilot"):
    """End the pilot now: its tasks are killed and go back. Safe to repeat."""

    handling = Handling(said_by=GUESTS, effect=Effect.DURABLE)

    pilot: PilotId


class GetPilots(Request[Pilots], frozen=True, tag="pilots"):
    """Pilots, newest first; with `live` only those that are not over; with `id` that one."""

    handling = Handling(said_by=AGENTS, effect=Effect.READ, pilot_field="id", bulky_reply=True)

    id: PilotId | None = None
    live: bool = False


class PilotView(Reply, frozen=True):
    """The answer to `GetPilotView`.

    Attributes
    ----------
    pilot
        None if there is none of that number.
    tasks
        What it holds, 20,000 at the most.
    events
        What became of it, ``(at, words)``, since the server began.
    """

    now: float
    pilot: Pilot | None = None
    nodes: tuple[NodeState, ...] = ()
    tasks: tuple[RunningTask, ...] = ()
    events: tuple[tuple[float, str], ...] = ()
    pace: Pace | None = None


class GetPilotView(Request[PilotView], frozen=True, tag="pilot_view"):
    """A pilot seen from near."""

    handling = Handling(said_by=GUESTS, effect=Effect.READ, bulky_reply=True)

    pilot: PilotId


class Spans(Reply, frozen=True):
    """The answer to `GetSpans`.

    Attributes
    ----------
    next
        The `before` of the following page, 0 when this was the last.
    seq
        The `since` to go on from.
    reset
        The server cannot say what has ended since (it was restarted, or that is too long ago): these are the newest.
    """

    spans: tuple[Span, ...]
    next: int = 0
    seq: int = 0
    reset: bool = False


class GetSpans(Request[Spans], frozen=True, tag="spans"):
    """When a pilot's slots were in use: attempts that have ended.

    With `before` those of older tasks than that one, newest tasks first; else, with the `seq` of an earlier answer as
    `since`, those that have ended since then; else those of the newest tasks. The server looks at so many attempts only
    as keeps others from waiting, as with `GetTasks`.
    """

    handling = Handling(said_by=GUESTS, effect=Effect.READ, bulky_reply=True)

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
    """The last `limit` bytes of a file that lies in the pilot's directory on the store's host."""

    handling = Handling(said_by=OWNER, effect=Effect.READ, execution=Execution.THREAD)

    pilot: PilotId
    name: str
    limit: int = 65_536
