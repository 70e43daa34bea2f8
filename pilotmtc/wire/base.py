"""What all requests and replies are, and the replies that say little."""

from typing import Generic, TypeVar

from msgspec import Struct


class Reply(Struct, frozen=True, omit_defaults=True):
    """Base of all replies."""


R = TypeVar("R", bound=Reply)


class Request(Struct, Generic[R], frozen=True, tag_field="op", omit_defaults=True):
    """Base of all requests; the parameter is the type of the reply."""


class Done(Reply, frozen=True):
    """It is done."""


class Changed(Reply, frozen=True):
    """How many tasks or pilots the request changed, and how many matched but were in no state for it."""

    changed: int
    unfit: int = 0
