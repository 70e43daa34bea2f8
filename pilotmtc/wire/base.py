"""What all requests and replies are."""

from typing import Generic, TypeVar

from msgspec import Struct


class Reply(Struct, frozen=True, omit_defaults=True):
    """Base of all replies."""


R = TypeVar("R", bound=Reply)


class Request(Struct, Generic[R], frozen=True, tag_field="op", omit_defaults=True):
    """Base of all requests; the parameter is the type of the reply."""
