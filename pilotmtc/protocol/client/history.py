"""Requests of clients that read the past of whole campaigns, in columns."""

from msgspec import Struct

from pilotmtc.model import CampaignId, PilotId, Resources, Template
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


class WorkKind(Struct, frozen=True, array_like=True):
    """What tasks have in common that are planned alike: ids of template and resources, state, priority, failures."""

    template: int
    resources: int
    state: TaskState
    priority: int
    failures: int


class Workload(Reply, frozen=True):
    """The answer to `GetWorkload`.

    Attributes
    ----------
    tasks, kind
        The bytes of two arrays, little-endian and equally long: ids of tasks (``q``), and which of `kinds` each is
        (``i``).
    next
        As in `History`.
    templates
        By the ids in `kinds`: only the command, which may be cut off, and what is said of retries.
    resources
        The same.
    """

    kinds: tuple[WorkKind, ...] = ()
    tasks: bytes = b""
    kind: bytes = b""
    next: int = 0
    templates: dict[int, Template] = {}
    resources: dict[int, Resources] = {}


class GetWorkload(Request[Workload], frozen=True, tag="workload"):
    """Get what a campaign's tasks with ids above `after` are and how they stand, page by page."""

    handling = Handling(said_by=CLIENTS, effect=Effect.READ, bulky_reply=True)

    campaign: CampaignId
    after: int = 0


class Links(Reply, frozen=True):
    """The answer to `GetLinks`.

    Attributes
    ----------
    tasks, needs, well
        The bytes of three arrays, little-endian and equally long: a task (``q``), one that it needs (``q``), and
        whether that must succeed (``b``).
    more
        Whether there are more: ask again from the last ones on.
    """

    tasks: bytes = b""
    needs: bytes = b""
    well: bytes = b""
    more: bool = False


class GetLinks(Request[Links], frozen=True, tag="links"):
    """Get what a campaign's tasks depend on, page by page, in order of tasks and then of those that they need.

    Tasks of other campaigns may be among them. `after`: the last task and the last need of the page before.
    """

    handling = Handling(said_by=CLIENTS, effect=Effect.READ, bulky_reply=True)

    campaign: CampaignId
    after: tuple[int, int] = (0, 0)
