"""The table of all requests, collected from the files that declare them, and checked."""

from typing import Any, get_args

from pilotmtc.protocol import agent, steward, values
from pilotmtc.protocol.base import Effect, Execution, Reply, Request, Role
from pilotmtc.protocol.client import campaigns, history, maintenance, pilots, programs, tasks, watch

AnyRequest = Request[Any]

REQUESTS: tuple[type[AnyRequest], ...] = tuple(
    kind
    for module in (campaigns, programs, tasks, pilots, history, watch, maintenance, values, agent, steward)
    for kind in vars(module).values()
    if isinstance(kind, type) and issubclass(kind, Request) and kind.__module__ == module.__name__
)
# The type of the reply is the parameter of the base class.
REPLIES: dict[type[object], type[Reply]] = {kind: get_args(vars(kind)["__orig_bases__"][0])[0] for kind in REQUESTS}


def contradictions(kind: type[AnyRequest]) -> list[str]:
    """Return the contradictions between a request's fields and its handling."""
    fields = kind.__struct_fields__
    handling = kind.handling
    needed = {
        "a handling of its own": "handling" in vars(kind),
        "somebody who may say it": bool(handling.said_by),
        f"the field {handling.pilot_field}, for agents say it": (
            Role.AGENT not in handling.said_by or handling.pilot_field in fields
        ),
        "pilot, for it is a sign of its life": not handling.sign_of_life or "pilot" in fields,
        "waits_for if and only if it has wait_s": (handling.waits_for is not None) == ("wait_s" in fields),
        f"the field {handling.repeat_key}, by which a repeat is recognized": (
            not handling.repeat_key or handling.repeat_key in fields
        ),
        "repeat_key if it writes and has a key": (
            handling.effect is Effect.READ or handling.repeat_key == "key" or "key" not in fields
        ),
        "a transaction if it may wait": handling.waits_for is None or handling.execution is Execution.TRANSACTION,
    }
    return [f"{kind.__name__} needs {what}" for what, given in needed.items() if not given]


if _wrong := [words for kind in REQUESTS for words in contradictions(kind)]:
    raise TypeError("; ".join(_wrong))
