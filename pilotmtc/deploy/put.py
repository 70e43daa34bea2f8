"""Installing pilotmtc on a site that need not have access to the internet."""

import hashlib
import importlib.resources
import json
import shlex
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from pilotmtc import __version__
from pilotmtc.deploy import on_site
from pilotmtc.deploy.python import Python, choose, find_pythons
from pilotmtc.deploy.shell import Shell, marked
from pilotmtc.deploy.wheels import gather
from pilotmtc.errors import ConfigError, UsageError
from pilotmtc.sites import Site
from pilotmtc.transport.ssh.url import quote_word

BASE = "~/.pilotmtc"
_INSTALL_LIMIT_S = 1800.0


class Deployed(Struct, frozen=True):
    """The result of a deployment.

    Attributes
    ----------
    site
        The site; its `command` is the new pilotmtc.
    version
        The version of pilotmtc.
    python
        The Python that it runs in.
    files, sent
        How many files it needs, and how many of them were sent.
    fresh
        Whether a new environment was made; otherwise it existed already.
    others
        Older environments that are still there.
    """

    site: Site
    version: str
    python: str
    files: int
    sent: int
    fresh: bool
    others: tuple[str, ...]


def deploy(
    site: Site, *, python: str = "", base: str = BASE, talk: Callable[[str], None] = lambda words: None
) -> Deployed:
    """Install the pilotmtc that runs here on a site. Safe to interrupt and to repeat.

    Parameters
    ----------
    python
        The Python to use there; None: search for one.
    base
        The directory to install into.
    talk
        Called with a message about each step.

    Raises
    ------
    ConfigError
        If something needed is missing or does not work there; the site keeps what it had.
    ConnectError
        If the site cannot be reached. Files that have arrived are not sent again the next time.
    """
    with Shell(site) as shell:
        if shell.link is None:
            raise UsageError(f"site {site.name} is this machine, where pilotmtc runs already")
        chosen = choose(find_pythons(shell, python), shell.where, python)
        ready = _there(shell, chosen, "prepare", base)
        with tempfile.TemporaryDirectory(prefix="pilotmtc-wheels-") as directory:
            talk(f"{shell.where} has {chosen}; getting pilotmtc {__version__} and its libraries for it")
            files = {file: on_site.hash_of(str(file)) for file in gather(chosen, Path(directory))}
            missing = [file for file, digest in files.items() if ready["hashes"].get(file.name) != digest]
            size = sum(file.stat().st_size for file in missing) / 1e6
            talk(f"sending {len(missing)} of {len(files)} files, {size:.1f} MB")
            with shell.link.files() as remote:
                for file in missing:
                    remote.put(str(file), f"{ready['base']}/wheels/{file.name}")
        talk(f"installing in {ready['base']}")
        order = {
            "name": _name(chosen, sorted(files.values())),
            "files": {file.name: digest for file, digest in files.items()},
            "version": __version__,
        }
        done = _there(shell, chosen, "install", ready["base"], json.dumps(order))
    command = done["command"]
    if " " in command:  # a command with spaces in it is a shell line
        command = f"exec {quote_word(command)}"
    return Deployed(
        msgspec.structs.replace(site, command=command), __version__, str(chosen), len(files), len(missing),
        done["fresh"], tuple(done["others"]),
    )  # fmt: skip


def _name(python: Python, digests: list[str]) -> str:
    """Return the name of the environment for these files; it depends on their contents."""
    mark = hashlib.sha256(repr((str(python), digests)).encode()).hexdigest()[:10]
    return f"{__version__}-{mark}"


def _there(shell: Shell, python: Python, *words: str) -> dict[str, Any]:
    """Run `on_site` in a Python of the site."""
    text = importlib.resources.files("pilotmtc.deploy").joinpath("on_site.py").read_text(encoding="utf-8")
    line = " ".join(map(shlex.quote, (python.path, "-I", "-c", text, *words)))
    answer = shell.run("exec /bin/sh", f"{line} </dev/null\nexit $?\n", timeout_s=_INSTALL_LIMIT_S)
    lines = marked(answer.out, on_site.MARK)
    if not lines:
        raise ConfigError(f"{python} on {shell.where} ended with {answer.status}: {answer.said}")
    done: dict[str, Any] = json.loads(lines[-1])
    if trouble := done.get("trouble"):
        raise ConfigError(f"{shell.where}: {trouble}")
    return done
