"""What all requests and replies are, who may say them, and the replies that say little."""

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


class Reply(Struct, frozen=True, omit_defaults=True):
    """Base of all replies."""


R = TypeVar("R", bound=Reply)


class Request(Struct, Generic[R], frozen=True, tag_field="op", omit_defaults=True):
    """Base of all requests; the parameter is the type of the reply.

    Attributes
    ----------
    said_by
        Who may say it. Nobody may unless the request says who.
    names
        The field that must name an agent's own pilot.
    """

    said_by: ClassVar[frozenset[Role]] = frozenset()
    names: ClassVar[str] = "pilot"


class Done(Reply, frozen=True):
    """It is done; `note` says what else there is to know about it."""

    note: str = ""


class Changed(Reply, frozen=True):
    """How many tasks or pilots the request changed, and how many matched but were in no state for it."""

    changed: int
    unfit: int = 0
