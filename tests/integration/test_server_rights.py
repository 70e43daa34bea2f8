"""What somebody gets from the store's server who has come with one of its keys."""

import functools
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from pilotmtc.errors import ConfigError, LoginRefused, NotPermitted
from pilotmtc.executor.pickling.trust import check_account
from pilotmtc.model import Pilot, PilotDescription, PilotId, Resources
from pilotmtc.protocol.agent import AttachPilot, Claim, EndPilot
from pilotmtc.protocol.base import Request
from pilotmtc.protocol.client.campaigns import Submit
from pilotmtc.protocol.client.maintenance import GetStore, NewKey, RevokeKey, SnapshotStore
from pilotmtc.protocol.client.pilots import CreatePilot, GetPilotFile, GetPilots
from pilotmtc.session.link import StoreLink
from pilotmtc.states import PilotState
from pilotmtc.store import serve
from pilotmtc.store.access.keys import new_key, pilot_key_name
from pilotmtc.store.client.client import StoreClient
from pilotmtc.store.client.connect import connect_store
from pilotmtc.transport.process import open_process
from tests.serving import Place
from tests.support import wait_until

pytestmark = pytest.mark.usefixtures("surroundings")


def come(place: Place, key: str, pilot: PilotId | None = None) -> StoreClient:
    """Come as whoever has the key, whose line in authorized_keys runs this."""
    argv = [sys.executable, "-I", "-S", serve.__file__, str(place.path), key]
    return StoreClient(functools.partial(open_process, argv), patience_s=20, pilot=pilot)


def a_pilot(user: StoreClient, key: str = "a", directory: str = "") -> Pilot:
    return user.call(CreatePilot(key, PilotDescription(cores=1), directory)).pilots[0]


def a_pilots_key(place: Place, key: str = "a") -> str:
    return new_key(place.path, pilot_key_name(key)).name


def test_pilots_key_lets_its_agent_work(place: Place) -> None:
    user = place.client()
    pilot = a_pilot(user)
    with come(place, a_pilots_key(place), pilot.id) as agent:
        agent.call(AttachPilot(pilot.id, "host", 1, 1, 1))
        assert agent.call(GetPilots(id=pilot.id)).pilots[0].state is PilotState.ACTIVE
        assert agent.call(Claim(pilot.id, 1, Resources(), Resources(), 1)).tasks == ()
        agent.call(EndPilot(pilot.id, PilotState.DONE))


def test_pilots_key_opens_nothing_else(place: Place, tmp_path: Path) -> None:
    user = place.client()
    pilot, other = a_pilot(user, directory=str(tmp_path)), a_pilot(user, "b")
    (tmp_path / "secret").write_text("secret")
    job = PilotDescription(cores=1, scheduler="local://localhost/", login="-", setup=("id",))
    with come(place, a_pilots_key(place)) as stranger:
        asked: tuple[Request[Any], ...] = (
            GetPilotFile(pilot.id, "secret"), CreatePilot("c", PilotDescription(cores=1), "/etc"),
            CreatePilot("d", job),
            SnapshotStore(str(tmp_path / "copy")), NewKey("later"), Submit("k", last=True), GetPilots(), GetStore(),
            GetPilots(id=other.id), Claim(other.id, 1, Resources(), Resources(), 1), RevokeKey("x"),
            EndPilot(other.id, PilotState.FAILED),
        )  # fmt: skip
        for request in asked:
            with pytest.raises(NotPermitted):
                stranger.call(request)
    assert [one.id for one in user.call(GetPilots()).pilots] == [other.id, pilot.id]
    assert not (tmp_path / "copy").exists()


def test_pilots_key_does_not_become_another_pilots(place: Place) -> None:
    user = place.client()
    a_pilot(user)
    other = a_pilot(user, "b")
    with come(place, a_pilots_key(place), other.id) as agent, pytest.raises(NotPermitted, match="not of pilot"):
        agent.call(GetPilots(id=other.id))


def test_stores_key_has_no_files_no_keys_and_no_jobs(place: Place, tmp_path: Path) -> None:
    user = place.client()
    (key,) = user.call(NewKey("cluster")).keys
    job = PilotDescription(cores=1, scheduler="local://localhost/", login="-", setup=("id",))
    with come(place, key.name) as holder:
        holder.call(Submit("k", last=True))
        pilot = a_pilot(holder, directory="/etc")
        asked: tuple[Request[Any], ...] = (
            GetPilotFile(pilot.id, "hostname"), CreatePilot("d", job), SnapshotStore(str(tmp_path / "copy")),
            NewKey("later"), RevokeKey("x"),
        )  # fmt: skip
        for request in asked:
            with pytest.raises(NotPermitted):
                holder.call(request)


def test_results_of_functions_are_loaded_by_whoever_has_a_login(place: Place) -> None:
    check_account(StoreLink(place.client(), "ssh://host"))
    place.client().call(GetStore())
    with come(place, new_key(place.path, "cluster").name) as guest:
        assert guest.call(GetStore()).path
        with pytest.raises(ConfigError, match="a pickle can run any program; come by a login of your own"):
            check_account(StoreLink(guest, "ssh://host"))


def test_revoking_a_key_ends_its_connections_and_no_others(place: Place) -> None:
    user = place.client()
    pilot = a_pilot(user)
    name = a_pilots_key(place)
    (kept,) = user.call(NewKey("kept")).keys
    with come(place, name, pilot.id) as agent, come(place, kept.name) as holder:
        assert agent.call(GetPilots(id=pilot.id)).pilots
        assert holder.call(GetStore()).clients == 3
        user.call(RevokeKey(name))
        wait_until(lambda: user.call(GetStore()).clients == 2)
        # Whoever had logged in before comes again over the same SSH connection.
        with pytest.raises(LoginRefused, match=name):
            agent.call(GetPilots(id=pilot.id))
        assert holder.call(GetStore()).clients == 2


def test_key_of_no_pilot_or_of_a_strange_name_opens_nothing(place: Place) -> None:
    place.client().call(GetStore())
    a_pilots_key(place, "unknown")
    for name in ("pilot-unknown", "never-made", "../keys", "."):
        with come(place, name) as stranger, pytest.raises(LoginRefused):
            stranger.call(GetStore())


def test_agent_without_a_key_is_held_to_its_word(place: Place) -> None:
    pilot, other = a_pilot(place.client()), a_pilot(place.client(), "b")
    with connect_store(str(place.path), patience_s=20, pilot=pilot.id) as agent:
        assert agent.call(GetPilots(id=pilot.id)).pilots
        asked: tuple[Request[Any], ...] = (GetStore(), GetPilots(id=other.id))
        for request in asked:
            with pytest.raises(NotPermitted):
                agent.call(request)


def test_names_of_pilots_keys_are_not_given_to_others(place: Place) -> None:
    with pytest.raises(Exception, match="choose another"):
        place.client().call(NewKey("pilot-x"))
    assert not os.path.exists(f"{place.path}.d/keys/pilot-x")
