"""How all of a process share connections to other hosts."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

import pytest

from pilotmtc.errors import ConfigError, StoreMoved
from pilotmtc.store.client.moved import MovedStore
from pilotmtc.store.client.remote import RemoteStore
from pilotmtc.store.location import StoreLocation
from pilotmtc.transport import pool
from pilotmtc.transport.pool import SharedLink
from pilotmtc.transport.ssh.url import SshTarget


@dataclass
class FakeLink:
    host: str
    open_links: list[str]

    def close(self) -> None:
        self.open_links.remove(self.host)


@pytest.fixture
def links(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Hosts to which there is a connection; ``bad`` cannot be connected to."""
    there: list[str] = []

    def make(route: pool.Route, _ask: object, _first: object) -> FakeLink:
        if route[-1].host == "bad":
            raise ConfigError("its configuration is wrong")
        there.append(route[-1].host)
        return FakeLink(route[-1].host, there)

    monkeypatch.setattr(pool, "_new_link", make)
    yield there
    assert not pool._links


def target(host: str) -> SshTarget:
    return SshTarget(host=host, path="s.db")


def test_connection_is_shared_and_the_last_one_closes_it_and_its_jump(links: list[str]) -> None:
    jump = SharedLink(target("a"))
    first, second = (SharedLink(target("b"), through=jump) for _ in range(2))
    assert links == ["a", "b"]
    jump.close()
    first.close()
    first.close()
    assert links == ["a", "b"]
    second.close()
    assert links == []


def test_jump_is_given_back_when_what_is_behind_it_cannot_be_had(links: list[str]) -> None:
    jump = SharedLink(target("a"))
    for _ in range(3):
        with pytest.raises(ConfigError, match="configuration"):
            SharedLink(target("bad"), through=jump)
    assert links == ["a"]
    jump.close()
    assert links == []


def test_ways_that_cannot_all_be_made_leave_none(links: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    location = StoreLocation("ssh://a/s.db", "s.db", target("a"))
    first = RemoteStore(target("a"))
    make = pool._new_link

    def refuse_direct(route: pool.Route, ask: None, link: None) -> FakeLink:
        if len(route) == 1:
            raise ConfigError("its configuration is wrong")
        return cast("FakeLink", make(route, ask, link))

    monkeypatch.setattr(pool, "_new_link", refuse_direct)
    with pytest.raises(ConfigError, match="configuration"):
        MovedStore(location, first).connect(StoreMoved("moved: b: it has the store"))
    assert links == ["a"]
    first.close()
