"""Identifies clients, and decides which requests they may send. Pure.

Each request declares which roles may send it (`Handling.said_by`); everything else is refused. A client's role comes
from something that the client cannot forge: ``serve`` gets the name of a key from the line in ``authorized_keys`` that
started it, and a steward is a child of the server.
"""

from msgspec import Struct
from msgspec.structs import replace

from pilotmtc.errors import NotPermitted
from pilotmtc.model import PilotId
from pilotmtc.protocol.base import Role
from pilotmtc.protocol.client.pilots import CreatePilot
from pilotmtc.protocol.registry import AnyRequest


class PeerIdentity(Struct, frozen=True):
    """Who a client is.

    Attributes
    ----------
    role
        Its role; None: it may not send anything.
    key
        The name of the store's key that it has used; empty: none.
    pilot
        The pilot whose agent it is; None for other clients.
    """

    role: Role | None
    key: str = ""
    pilot: PilotId | None = None

    def agent_of(self, pilot: PilotId) -> "PeerIdentity":
        """Return its identity as the agent of `pilot`, which it says it is.

        Raises
        ------
        NotPermitted
            If its key is another pilot's.
        """
        if self.pilot not in (None, pilot):
            raise NotPermitted(f"the key {self.key} is that of pilot {self.pilot}, not of pilot {pilot}")
        return replace(self, role=Role.AGENT, pilot=pilot)


NOBODY = PeerIdentity(None)
USER = PeerIdentity(Role.USER)
STEWARD = PeerIdentity(Role.STEWARD)


def refusal(who: PeerIdentity, request: AnyRequest) -> NotPermitted | None:
    """Return why `who` may not send `request`; None if it may."""
    name = type(request).__name__
    handling = request.handling
    if who.role not in handling.said_by:
        if who.role is Role.AGENT:
            return NotPermitted(
                f"{name} is not for agents: pilot {who.pilot} may only get tasks and bring results. Tasks that use the "
                "store need a way to it of their own: docs/ssh.md says how"
            )
        return NotPermitted(
            f"{name} is not for keys of the store: the key {who.key} opens the store's tasks and pilots only. Come by "
            "a login of your own"
        )
    if who.role is Role.AGENT and (who.pilot is None or getattr(request, handling.pilot_field, None) != who.pilot):
        return NotPermitted(f"{name}: the agent of pilot {who.pilot} may speak of that pilot only")
    if who.role is Role.KEY and isinstance(request, CreatePilot) and request.description.scheduler:
        return NotPermitted(
            f"the key {who.key} cannot have jobs submitted: they run with all rights of the account. Come by a login "
            "of your own"
        )
    return None
