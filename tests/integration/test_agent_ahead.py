"""Agents that are there before their pilots are."""

import os
import signal
from pathlib import Path

from pilotmtc.model import PilotDescription
from pilotmtc.pilots import AgentAhead, start_local
from pilotmtc.protocol.client.pilots import CancelPilot, CreatePilot, GetPilots
from pilotmtc.states import PILOT_FINAL, PilotState
from pilotmtc.store.client.connect import connect_store
from tests.support import processes_with, wait_until

DESCRIPTION = PilotDescription(cores=1, pin=False)


def agents(directory: Path) -> list[int]:
    """Return the agents, without their guards, of the pilot with this directory."""
    found = processes_with(f"XDG_RUNTIME_DIR={os.environ['XDG_RUNTIME_DIR']}")
    return [pid for pid, command in found.items() if "pilotmtc.agent" in command and str(directory) in command]


def test_agent_that_gets_no_pilot_leaves_nothing(surroundings: Path, tmp_path: Path) -> None:
    ahead = AgentAhead(str(tmp_path / "store.db"))
    wait_until(lambda: agents(ahead.directory))
    ahead.close()
    wait_until(lambda: not agents(ahead.directory))
    assert not ahead.directory.exists()
    ahead.close()


def test_agent_becomes_that_of_one_pilot(surroundings: Path, tmp_path: Path) -> None:
    url = str(tmp_path / "store.db")
    with connect_store(url) as store:
        ahead = AgentAhead(url)
        pilots = [start_local(store, url, DESCRIPTION, 60.0, ahead) for _ in range(2)]
        assert [pilot.state for pilot in pilots] == [PilotState.ACTIVE] * 2
        assert pilots[0].directory == str(ahead.directory)
        assert pilots[1].directory != pilots[0].directory
        for pilot in pilots:
            store.call(CancelPilot(pilot.id))
        wait_until(lambda: all(pilot.state in PILOT_FINAL for pilot in store.call(GetPilots()).pilots), 60.0)
        for pilot in pilots:
            wait_until(lambda pilot=pilot: not agents(Path(pilot.directory)))  # type: ignore[misc]


def test_agent_that_is_killed_is_reported_by_its_number(surroundings: Path, tmp_path: Path) -> None:
    url = str(tmp_path / "store.db")
    with connect_store(url) as store:
        ahead = AgentAhead(url)
        pilot = store.call(CreatePilot(ahead.key, DESCRIPTION, str(ahead.directory))).pilots[0]
        ahead.become(pilot.id)
        wait_until(lambda: store.call(GetPilots(id=pilot.id)).pilots[0].state is PilotState.ACTIVE, 60.0)
        (pid,) = agents(ahead.directory)
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: store.call(GetPilots(id=pilot.id)).pilots[0].state is PilotState.FAILED, 60.0)
        assert "signal 9" in store.call(GetPilots(id=pilot.id)).pilots[0].reason
        ahead.close()
