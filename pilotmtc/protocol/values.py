"""Requests about values: pickled data that calls of functions need or return, and that no row is to carry.

A value is known by the SHA-256 of its bytes, in hexadecimal. Nobody between the client and the worker unpickles it.
"""

from pilotmtc.model import CampaignId, PilotId
from pilotmtc.protocol.base import CLIENTS_AND_AGENTS, USER_AND_STEWARDS, Effect, Handling, Reply, Request

PART_BYTES = 1 << 20  # of a value, in one message
MAX_VALUE_BYTES = (1 << 30) + (16 << 20)  # an array of 1 GiB, and what else is pickled with it


class ValueStatus(Reply, frozen=True):
    """The store has the first `received` bytes; when these are all, it has checked them and keeps the value.

    `parts` is where a client on the store's host may put a file that holds the whole value, if that spares something.
    """

    received: int
    parts: str = ""


class PutValue(Request[ValueStatus], frozen=True, tag="put_value"):
    """Store a part of a value.

    Safe to repeat: what the store has already is passed over, and what would leave a gap is not taken; the answer says
    where to go on. A value that is not what its digest says is dropped, with `UsageError` as the answer. Without
    `data` it only asks how much the store has.

    A value that no campaign uses is removed some days after it was last put or asked about.

    Attributes
    ----------
    digest
        Of the whole value.
    offset
        Where `data`, up to `PART_BYTES`, belongs.
    size
        Of the whole value, up to `MAX_VALUE_BYTES`.
    campaign
        Keep the value as long as this campaign; the tasks that mention it do so, too.
    pilot
        An agent names its own.
    file
        The name of a file in `ValueStatus.parts` that holds the whole value, which comes without `data` then. The store
        takes it; if it is not there, nothing has been received.
    """

    handling = Handling(said_by=CLIENTS_AND_AGENTS | USER_AND_STEWARDS, effect=Effect.DURABLE, bulky=True)

    digest: str
    offset: int
    size: int
    data: bytes
    campaign: CampaignId | None = None
    pilot: PilotId | None = None
    file: str = ""


class ValuePart(Reply, frozen=True):
    """The answer to `GetValue`.

    Attributes
    ----------
    found
        Whether the store has the value.
    size
        Of the whole value.
    path
        The file on the store's host that holds all of it, if there is one; else empty.
    """

    found: bool
    size: int = 0
    data: bytes = b""
    path: str = ""


class GetValue(Request[ValuePart], frozen=True, tag="value"):
    """Get up to `limit` bytes of a value, from `offset` on; an agent names its own `pilot`."""

    handling = Handling(said_by=CLIENTS_AND_AGENTS, effect=Effect.READ, bulky_reply=True)

    digest: str
    offset: int = 0
    limit: int = PART_BYTES
    pilot: PilotId | None = None
