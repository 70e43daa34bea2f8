"""Checks of a site, from the connection there to the connection back from its nodes."""

import json
from collections.abc import Iterator

import msgspec

from pilotmtc import __version__
from pilotmtc.boot import program
from pilotmtc.deploy.finding import Finding, finding
from pilotmtc.deploy.python import choose, find_pythons
from pilotmtc.deploy.shell import Shell, marked
from pilotmtc.errors import ConnectError, HostKeyRefused, PilotMTCError
from pilotmtc.protocol.client.maintenance import GetStore, StoreInfo
from pilotmtc.protocol.frames import PROTOCOL
from pilotmtc.sites import LOCAL, SAME_HOST, Site
from pilotmtc.store.client.connect import connect_store
from pilotmtc.transport.ssh.url import quote_word, remote_command

HERE_MARK = "pilotmtc-finding: "
_PATIENCE_S = 20.0
_HERE_LIMIT_S = 120.0


def check(site: Site) -> Iterator[Finding]:
    """Yield one finding after the other. Its `ok` is None if it could not be checked because an earlier check failed.

    They are ``ssh``, ``host key``, ``python``, ``pilotmtc``, ``store``, ``scheduler`` and ``way back``; the first three
    are left out for this machine.
    """
    rest = ["pilotmtc", "store"]
    rest += ["scheduler"] if site.scheduler != LOCAL else []
    rest += ["way back"] if site.login != SAME_HOST else []
    with Shell(site) as shell:
        if shell.link is not None:
            way = list(_way(shell))
            yield from way
            if not all(each.ok for each in way):
                for name in ("python", *rest):
                    yield Finding(name, None, f"{shell.where} is not reached")
                return
            yield finding("python", lambda: str(choose(find_pythons(shell), shell.where)))
        info: list[StoreInfo] = []
        yield finding("pilotmtc", lambda: _pilotmtc(site, info))
        if not info:
            for name in rest[1:]:
                yield Finding(name, None, f"it takes pilotmtc on {shell.where}")
            return
        yield Finding("store", True, _store(info[0]))
        seen = []
        for one in _look_there(site, shell):
            seen.append(one.name)
            yield one
        for name in rest[2:]:
            if name not in seen:
                yield Finding(name, None, "it was not looked at")


def _way(shell: Shell) -> Iterator[Finding]:
    """Open the connection and run a command there: the system's `ssh` connects only then."""
    try:
        answer = shell.run("echo", timeout_s=120.0)
    except HostKeyRefused as error:
        yield Finding("ssh", None, f"{shell.where} answers, but may be another host")
        yield Finding("host key", False, str(error), error.exit_code)
    except PilotMTCError as error:
        yield Finding("ssh", False, str(error), error.exit_code)
    else:
        if answer.status:
            yield Finding(
                "ssh", False, f"the login shell on {shell.where} fails: {answer.said}", ConnectError.exit_code
            )
        else:
            yield Finding("ssh", True, f"{shell.where} lets you in")
            yield Finding("host key", True, "it is the one in known_hosts")


def _pilotmtc(site: Site, info: list[StoreInfo]) -> str:
    try:
        with connect_store(site.url, patience_s=_PATIENCE_S) as client:
            info.append(client.call(GetStore()))
    except PilotMTCError as error:
        if site.host:
            error.args = (f"{error}. `pilotmtc site deploy {site.name}` puts version {__version__} there",)
        raise
    version = info[0].version
    other = (
        ""
        if version == __version__
        else f", not {__version__}: `pilotmtc site deploy {site.name}` brings it up to date"
    )
    return f"version {version}{other}; protocol {PROTOCOL}"


def _store(info: StoreInfo) -> str:
    lies_on = f"{info.file_system} ({info.mount})" if info.mount else "a file system that is not known"
    return f"{info.path} on {info.host} lies on {lies_on}, opened in {info.mode} mode"


def _look_there(site: Site, shell: Shell) -> Iterator[Finding]:
    """Let the site's own pilotmtc check what only it can see."""
    target = site.target
    words = ["look-here", *(["--scheduler", site.scheduler] if site.scheduler else [])]
    words += ["--login", site.login] if site.login else []
    if target is not None:
        line = remote_command(target.command or "pilotmtc", *words, "--store", target.path)
    else:
        store = ["--store", site.store] if site.store else []
        line = "exec " + " ".join(map(quote_word, program("pilotmtc", *words, *store)))
    try:
        answer = shell.run(line, timeout_s=_HERE_LIMIT_S)
    except PilotMTCError as error:
        yield Finding("scheduler", False, str(error), error.exit_code)
        return
    lines = marked(answer.out, HERE_MARK)
    for each in lines:
        yield msgspec.convert(json.loads(each), Finding)
    if not lines and answer.status:
        yield Finding("scheduler", False, f"`pilotmtc look-here` on {shell.where} failed: {answer.said}", 5)
