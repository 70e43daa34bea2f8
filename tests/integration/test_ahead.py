"""What commands start before they have imported what they need."""

from pathlib import Path

import pytest

from pilotmtc.errors import ConfigError
from pilotmtc.model import PilotDescription
from pilotmtc.session import Session
from pilotmtc.session.ahead import Ahead


def test_session_takes_the_connection_that_was_made_for_it(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    with Ahead(path) as ahead, Session(path, ahead=ahead) as session:
        assert session.campaigns() == ()
        channel = ahead.server._channel
        assert channel is None
    with Session(path) as session:
        assert session.campaigns() == ()


def test_what_nobody_takes_ends(tmp_path: Path) -> None:
    """The fixture of all tests sees to it that no process is left but servers, which leave by themselves."""
    with Ahead(tmp_path / "store.db", pilot=PilotDescription()) as ahead:
        assert ahead.agent is not None
        directory = ahead.agent.directory
    with pytest.raises(ConfigError, match="is a directory"):
        Ahead(tmp_path, pilot=PilotDescription())
    assert directory.parent.is_dir()
