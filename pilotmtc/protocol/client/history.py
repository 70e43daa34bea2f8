"""Requests of clients that read the past of whole campaigns, in columns."""

from msgspec import Struct

from pilotmtc.model import CampaignId, PilotId, Resources
from pilotmtc.protocol.base import CLIENTS, Effect, Handling, Reply, Request
from pilotmtc.states import TaskState

# The columns of `History.columns`: their names, and the type codes of Python's `array`. Texts are indexes.
COLUMNS = (
    ("task", "q"), ("attempt", "i"), ("campaign", "q"), ("state", "b"), ("newest", "b"), ("cause", "b"), ("code", "i"),
    ("pilot", "q"), ("node", "i"), ("slot", "i"), ("name", "i"), ("tags", "i"), ("template", "q"), ("resources", "q"),
    ("started_at", "d"), ("elapsed_s", "d"), ("cpu_s", "d"), ("memory_bytes", "q"), ("recorded_at", "d"),
)  # fmt: skip


class History(Reply, frozen=True, kw_only=True):
    """A page of attempts, in order of tasks.

    Attributes
    ----------
    now
        The time on the store's host.
    next
        The `after` of the following page; 0: this was the last one.
    columns
        The bytes of an array for each of `COLUMNS`, little-endian and equally long. ``state`` is the task's, ``newest``
        whether this is its newest attempt; ``code`` is the exit code or the signal.
    texts
        What ``node``, ``slot``, ``name`` and ``tags`` (a JSON array) are indexes into; the first one is empty.
    commands, resources
        The templates' commands, which may be cut off, and the resources, by the ids that the columns mention.
    """

    now: float
    next: int = 0
    columns: tuple[bytes, ...] = ()
    texts: tuple[str, ...] = ()
    commands: dict[int, str] = {}
    resources: dict[int, Resources] = {}


class GetHistory(Request[History], frozen=True, tag="history"):
    """Get a page of the recorded attempts of campaigns, of tasks with ids above `after`.

    The server looks at a limited number of attempts, so that other clients need not wait: a page may hold few, or none,
    without being the last.

    Attributes
    ----------
    campaigns
        The campaigns.
    pilots
        Instead, attempts of these pilots, of all *other* campaigns.
    """

    handling = Handling(said_by=CLIENTS, effect=Effect.READ, bulky_reply=True)

    campaigns: tuple[CampaignId, ...]
    pilots: tuple[PilotId, ...] = ()
    after: int = 0


class KindCount(Struct, frozen=True, array_like=True):
    """How many tasks of a template, with the same resources, are in a state."""

    template: int
    resources: int
    state: TaskState
    count: int


class Kinds(Reply, frozen=True):
    """The answer to `GetKinds`; fields as in `History`. The same kind may be in several pages."""

    kinds: tuple[KindCount, ...] = ()
    next: int = 0
    commands: dict[int, str] = {}
    resources: dict[int, Resources] = {}


class GetKinds(Request[Kinds], frozen=True, tag="kinds"):
    """Count a campaign's tasks with ids above `after` by template, resources and state, page by page."""

    handling = Handling(said_by=CLIENTS, effect=Effect.READ, bulky_reply=True)

    campaign: CampaignId
    after: int = 0
