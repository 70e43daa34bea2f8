"""Connections to other hosts, each one shared by all its users in a process."""

import os
import threading

from pilotmtc.transport.link import Ask, HostLink
from pilotmtc.transport.ssh.url import SshTarget

Route = tuple[SshTarget, ...]  # hosts on the way, the target last; each link starts from the host before it

_guard = threading.RLock()
_links: dict[Route, tuple[HostLink, int]] = {}  # and its number of users


class SharedLink:
    """A user's share in the link to a host, which opens at first use.

    Parameters
    ----------
    target
        The host, and how to log in there.
    ask
        How to ask the user for passwords and codes; None: on the terminal.
    through
        The link to the host from which to connect.
    """

    def __init__(self, target: SshTarget, ask: Ask | None = None, through: "SharedLink | None" = None) -> None:
        end = SshTarget(
            host=target.host,
            user=target.user,
            port=target.port,
            config=target.config,
            identity=target.identity,
            transport=target.transport,
        )
        self._route: Route = (end,) if through is None else (*through._route, end)
        self.link = _take(self._route, ask)
        self._closed = False

    def close(self) -> None:
        """Release the link; its last user closes it. Safe to repeat."""
        if not self._closed:
            self._closed = True
            _give_back(self._route)


def _take(route: Route, ask: Ask | None) -> HostLink:
    with _guard:
        link, users = _links.get(route) or (None, 0)
        if link is None:
            first = _take(route[:-1], ask) if len(route) > 1 else None
            try:
                link = _new_link(route, ask, first)
            except BaseException:
                if first is not None:
                    _give_back(route[:-1])
                raise
        _links[route] = link, users + 1
        return link


def _give_back(route: Route) -> None:
    with _guard:
        link, users = _links.pop(route, (None, 0))
        if link is None:  # it is the parent's, from before a fork
            return
        if users > 1:
            _links[route] = link, users - 1
            return
    try:
        link.close()
    finally:
        if len(route) > 1:
            _give_back(route[:-1])


def _after_fork() -> None:
    """Leave the parent's connections alone: data from the child would corrupt them."""
    _inherited.append(dict(_links))  # kept open, because closing one would send data
    _links.clear()
    _guard.release()


_inherited: list[object] = []
os.register_at_fork(before=_guard.acquire, after_in_parent=_guard.release, after_in_child=_after_fork)


def _new_link(route: Route, ask: Ask | None, first: HostLink | None) -> HostLink:
    # Imported here, because paramiko takes a tenth of a second and most stores are local.
    if route[-1].transport == "openssh":
        from pilotmtc.transport.openssh import OpenSshLink

        return OpenSshLink(route[-1], route[-2] if len(route) > 1 else None)
    from pilotmtc.transport.ssh.link import SshLink

    assert first is None or isinstance(first, SshLink)
    return SshLink(route[-1], ask=ask, through=first)
