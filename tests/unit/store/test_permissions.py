"""Who may say what: all requests times all kinds of peer."""

import typing

import msgspec
import pytest

from pilotmtc.errors import NotPermitted
from pilotmtc.model import PilotDescription, PilotId
from pilotmtc.protocol.base import Request, Role
from pilotmtc.protocol.client.pilots import CreatePilot, GetPilots
from pilotmtc.protocol.registry import REQUESTS, AnyRequest
from pilotmtc.store.server.permissions import NOBODY, STEWARD, USER, PeerIdentity, refusal

# Whatever is not here may be said by the user alone.
AGENT = {
    "AttachPilot", "Claim", "EndPilot", "Finish", "GetPilots", "GetValue", "Heartbeat", "PutValue", "ReportOutput",
    "Release", "Started",
}  # fmt: skip
KEY = AGENT | {
    "Cancel", "CancelPilot", "CreatePilot", "DeleteCampaign", "DrainPilot", "Edit", "Explain", "GetCalls",
    "GetCampaigns", "GetChanges", "GetDependencies", "GetHistory", "GetLimits", "GetLinks", "GetOutput",
    "GetOverview", "GetPilotView", "GetProgram", "GetReturned", "GetSpans", "GetStore", "GetTail", "GetTask",
    "GetTasks", "GetWords", "GetWorkload",
    "HoldCampaign", "HoldPilot", "HoldTasks", "LookAtProgram", "MarkSeen", "RenameCampaign", "ReopenCampaign", "Retry",
    "SetAfterCampaigns", "SetHalt", "SetLimits", "SetMaxRunning", "SetProgram", "SetStartRate",
    "ShareCampaign", "Submit",
}  # fmt: skip
ASKING = {"BeginSubmit", "Finish", "GetJobs", "PutValue", "ReportJobs", "RevokeKey"}
PEERS = {
    "user": (USER, {kind.__name__ for kind in REQUESTS}),
    "key": (PeerIdentity(Role.KEY, "cluster"), KEY),
    "agent": (PeerIdentity(Role.AGENT, "pilot-a", PilotId(1)), AGENT),
    "steward": (STEWARD, ASKING),
    "nobody": (NOBODY, set()),
}
VALUES = {int: 1, str: "x", float: 1.0, tuple: (), bool: False, dict: {}, bytes: b""}


def made(kind: type[AnyRequest], pilot: int) -> AnyRequest:
    """Return a request of that kind, about `pilot` if it is about one."""
    fields: dict[str, object] = {}
    hints = typing.get_type_hints(kind)
    for field in msgspec.structs.fields(kind):
        hint = hints[field.name]
        hint = getattr(hint, "__supertype__", hint)
        if field.name == kind.handling.pilot_field:
            fields[field.name] = pilot
        elif field.required:
            plain = typing.get_origin(hint) or hint
            if isinstance(plain, type) and issubclass(plain, msgspec.Struct):
                fields[field.name] = plain()
            else:
                fields[field.name] = VALUES.get(plain, 1)
    return kind(**fields)


@pytest.mark.parametrize("kind", REQUESTS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("peer", PEERS)
def test_each_peer_may_say_what_it_is_for_and_nothing_else(peer: str, kind: type[AnyRequest]) -> None:
    who, allowed = PEERS[peer]
    answer = refusal(who, made(kind, 1))
    assert (answer is None) == (kind.__name__ in allowed), answer


@pytest.mark.parametrize("kind", [kind for kind in REQUESTS if kind.__name__ in AGENT], ids=lambda kind: kind.__name__)
def test_agent_speaks_of_its_own_pilot_only(kind: type[AnyRequest]) -> None:
    answer = refusal(PeerIdentity(Role.AGENT, "pilot-a", PilotId(1)), made(kind, 2))
    assert isinstance(answer, NotPermitted)
    assert "of that pilot only" in str(answer)


def test_agent_does_not_ask_for_all_pilots() -> None:
    assert refusal(PeerIdentity(Role.AGENT, "pilot-a", PilotId(1)), GetPilots()) is not None


def test_request_that_declares_nothing_is_for_nobody() -> None:
    class New(Request["typing.Any"], frozen=True, tag="new"):
        pilot: PilotId = PilotId(1)

    for who, _ in PEERS.values():
        assert refusal(who, New()) is not None


def test_key_has_no_jobs_submitted() -> None:
    local = CreatePilot("k", PilotDescription(cores=1), "/somewhere")
    job = CreatePilot("k", PilotDescription(cores=1, scheduler="local://localhost/", setup=("id",)))
    assert refusal(PeerIdentity(Role.KEY, "cluster"), local) is None
    assert refusal(PeerIdentity(Role.KEY, "cluster"), job) is not None
    assert refusal(USER, job) is None


def test_agents_key_is_good_for_its_pilot_only() -> None:
    who = PeerIdentity(Role.AGENT, "pilot-a", PilotId(1))
    assert who.agent_of(PilotId(1)) == who
    with pytest.raises(NotPermitted, match="that of pilot 1"):
        who.agent_of(PilotId(2))
    assert USER.agent_of(PilotId(3)) == PeerIdentity(Role.AGENT, "", PilotId(3))
