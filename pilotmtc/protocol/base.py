"""Base classes of requests and replies, the handling of requests, and replies that several requests share."""

import enum
from typing import ClassVar, Generic, TypeVar

from msgspec import Struct


class Role(enum.Enum):
    """The kind of program at the other end of a connection."""

    USER = "the user's own programs: on the store's host, or logged in there by SSH"
    KEY = "a client that was let in by a key of the store"
    AGENT = "a pilot's agent: it has the pilot's key, or says that it is the agent"
    STEWARD = "a child process of the server that deals with a scheduler"


# Who may send a request, for `Handling.said_by`.
USER_ONLY = frozenset({Role.USER})
CLIENTS = USER_ONLY | {Role.KEY}
CLIENTS_AND_AGENTS = CLIENTS | {Role.AGENT}
USER_AND_STEWARDS = USER_ONLY | {Role.STEWARD}


class Effect(enum.Enum):
    """What a request does with the store's file."""

    READ = "it changes nothing in the file"
    WRITE = "it changes the file; a power failure may undo the change, and then its task runs again"
    DURABLE = "it changes the file, and the change is on disk before the answer is sent"


class Execution(enum.Enum):
    """Where the server performs a request."""

    TRANSACTION = "in the loop, in one transaction with others"
    ALONE = "in the loop, outside transactions, because it needs the whole file"
    THREAD = "in a thread beside the loop, because it takes long"


class WaitsFor(enum.Enum):
    """What a long poll waits for: a request that the server need not answer at once."""

    TASKS = "tasks to claim"
    ORDERS = "orders for the pilot"
    CHANGES = "any change that people watch"


TIME_LIMIT_S = 60.0


class Handling(Struct, frozen=True, kw_only=True):
    """How a request is handled.

    Attributes
    ----------
    said_by
        The roles that may send it.
    effect
        What it does with the store's file.
    execution
        Where the server performs it.
    time_limit_s
        A request in a thread is given up after this time. Those with more than `TIME_LIMIT_S` have another thread.
    pilot_field
        The field that must be an agent's own pilot.
    sign_of_life
        Whether it shows that the pilot is alive; then all later data on the same connection does so, too.
    waits_for
        What the server may wait for before it answers, up to the request's `wait_s`; None: it answers at once.
    longest_wait_s
        The longest wait.
    bulky
        Whether it may be large: clients send it after all others.
    bulky_reply
        Whether its reply may be large: the server sends each client only one of these per turn.
    repeat_key
        The field by which the server recognizes a repeated request. Empty: repeating it changes nothing.
    """

    said_by: frozenset[Role]
    effect: Effect
    execution: Execution = Execution.TRANSACTION
    time_limit_s: float = TIME_LIMIT_S
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

    A request may arrive twice, late or never. A client without an answer sends it again, which is always safe.

    Attributes
    ----------
    handling
        Each class declares its own. Without one, nobody may send the request.
    """

    handling: ClassVar[Handling] = Handling(said_by=frozenset(), effect=Effect.READ)

    def worth_sending(self, reply: R) -> bool:
        """Return whether to answer with `reply` now, although the request could still wait."""
        return True


class Done(Reply, frozen=True):
    """The request was performed; `note` is something that the user should know."""

    note: str = ""


class Changed(Reply, frozen=True):
    """How many tasks or pilots the request has changed, and how many were in a state that does not allow it."""

    changed: int
    unfit: int = 0
