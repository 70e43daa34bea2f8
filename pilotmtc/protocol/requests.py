"""All requests, collected from the files that declare them."""

from typing import Any, get_args

from pilotmtc.protocol import agent, steward
from pilotmtc.protocol.base import Reply, Request
from pilotmtc.protocol.client import campaigns, maintenance, pilots, tasks, watch

AnyRequest = Request[Any]

REQUESTS: tuple[type[AnyRequest], ...] = tuple(
    kind
    for module in (campaigns, tasks, pilots, watch, maintenance, agent, steward)
    for kind in vars(module).values()
    if isinstance(kind, type) and issubclass(kind, Request) and kind.__module__ == module.__name__
)


# The type of the reply is the parameter of the base.
REPLIES: dict[type[object], type[Reply]] = {kind: get_args(vars(kind)["__orig_bases__"][0])[0] for kind in REQUESTS}
