"""What all requests and replies are, how a request is handled, and the replies that say little."""

import enum
from typing import ClassVar, Generic, TypeVar

from msgspec import Struct


class Role(enum.Enum):
    """Who is at the other end of a connection."""

    USER = "the user: on the store's host, or there by an SSH login of their own"
    KEY = "whoever has a key of the store"
    AGENT = "a pilot's agent: it has the pilot's key, or says that it is the agent"
    STEWARD = "a child of the server that asks a scheduler"


OWNER = frozenset({Role.USER})
GUESTS = OWNER | {Role.KEY}
AGENTS = GUESTS | {Role.AGENT}
STEWARDS = OWNER | {Role.STEWARD}


class Effect(enum.Enum):
    """What a request does to the store's file."""

    READ = "it changes nothing there"
    WRITE = "it changes something; after a power failure the agent says it again, or the task runs again"
    DURABLE = "it changes something, and the disk has that before it is answered"


class Execution(enum.Enum):
    """Where the server executes a request."""

    TRANSACTION = "in the loop, in one transaction with others"
    ALONE = "in the loop, between two transactions, for it needs the whole file"
    THREAD = "beside the loop, for it takes long and needs little of the store"


class WaitsFor(enum.Enum):
    """What a request waits for that the server holds back (a long poll)."""

    TASKS = "tasks to claim"
    ORDERS = "orders for the pilot"
    CHANGES = "any change that people watch"


class Handling(Struct, frozen=True, kw_only=True):
    """How a request is handled.

    Attributes
    ----------
    said_by
        Who may say it.
    effect
        What it does to the store's file.
    execution
        Where the server does it.
    time_limit_s
        After so long a thread's request is given up.
    pilot_field
        The field that must name an agent's own pilot.
    sign_of_life
        Whether the pilot that it names is alive, and so is whatever else comes over the same connection.
    waits_for
        What the server may wait for, up to the request's `wait_s`, before it answers; None: it answers at once.
    longest_wait_s
        The server never waits longer.
    bulky
        It may be large: a client sends it after all others.
    bulky_reply
        Its reply may be large: the server does one of these a client and turn.
    repeat_key
        The field by which the server recognizes a repeat. Empty: to do it twice is to do it once.
    """

    said_by: frozenset[Role]
    effect: Effect
    execution: Execution = Execution.TRANSACTION
    time_limit_s: float = 60.0
    pilot_field: str = "pilot"
    sign_of_life: bool = False
    waits_for: WaitsFor | None = None
    longest_wait_s: float = 300.0
    bulky: bool = False
    bulky_reply: bool = False
    repeat_key: str = ""


class Reply(Struct, frozen=True, omit_defaults=True):
    """Base of all replies."""


R = TypeVar("R", bound=Reply)


class Request(Struct, Generic[R], frozen=True, tag_field="op", omit_defaults=True):
    """Base of all requests; the parameter is the type of the reply.

    Every request may arrive twice, late or never: whoever gets no answer says it again, which is always safe.

    Attributes
    ----------
    handling
        Each request has its own. Nobody may say one that has none.
    """

    handling: ClassVar[Handling] = Handling(said_by=frozenset(), effect=Effect.READ)

    def worth_sending(self, reply: R) -> bool:
        """Return whether to answer `reply` although the request could still wait."""
        return True


class Done(Reply, frozen=True):
    """It is done; `note` says what else there is to know about it."""

    note: str = ""


class Changed(Reply, frozen=True):
    """How many tasks or pilots the request changed, and how many matched but were in no state for it."""

    changed: int
    unfit: int = 0
