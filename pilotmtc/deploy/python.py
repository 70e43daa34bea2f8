"""The Pythons of a site, and whether pilotmtc can use them."""

import json
import shlex
import sys
from collections.abc import Sequence

import msgspec
from msgspec import Struct

from pilotmtc.deploy.shell import Shell, marked
from pilotmtc.errors import ConfigError

LEAST = (3, 11)
_NEWEST = 14
_MARK = "pilotmtc-python: "
# It must run in every Python 3.
_ASK = """\
import json, os, platform, sys, sysconfig
try:
    import venv
except ImportError:
    venv = None

libc = platform.libc_ver()
print("pilotmtc-python: " + json.dumps({
    "path": sys.executable, "version": list(sys.version_info[:3]), "venv": venv is not None,
    "threads": bool(sysconfig.get_config_var("Py_GIL_DISABLED")), "machine": platform.machine(),
    "libc": libc[0], "libc_version": libc[1],
    "markers": {
        "implementation_name": sys.implementation.name, "implementation_version": platform.python_version(),
        "os_name": os.name, "platform_machine": platform.machine(), "platform_release": platform.release(),
        "platform_system": platform.system(), "platform_version": platform.version(),
        "python_full_version": platform.python_version(),
        "platform_python_implementation": platform.python_implementation(),
        "python_version": ".".join(platform.python_version_tuple()[:2]), "sys_platform": sys.platform,
    },
}))
"""


class Python(Struct, frozen=True):
    """A Python on a site.

    Attributes
    ----------
    venv
        Whether it can make virtual environments.
    threads
        Whether it is free-threaded: few libraries support that.
    libc, libc_version
        ``glibc`` and its version; anything else counts as musl.
    markers
        The environment markers that requirements may depend on.
    """

    path: str
    version: tuple[int, int, int]
    venv: bool
    threads: bool
    machine: str
    libc: str
    libc_version: str
    markers: dict[str, str]

    def __str__(self) -> str:
        return f"{self.path} ({'.'.join(map(str, self.version))})"

    @property
    def trouble(self) -> str:
        """Why pilotmtc cannot use it; empty if it can."""
        if self.version[:2] < LEAST:
            return "too old"
        if self.threads:
            return "a free-threaded one"
        return "" if self.venv else "without its module venv"


def find_pythons(shell: Shell, name: str = "") -> list[Python]:
    """Return the Python with this name, or all on the PATH with usual names."""
    own = f"python{sys.version_info.major}.{sys.version_info.minor}"
    names = [name] if name else [own, "python3", *(f"python3.{minor}" for minor in range(_NEWEST, LEAST[1] - 1, -1))]
    script = (
        f"for python in {' '.join(map(_word, dict.fromkeys(names)))}; do\n"
        f'  command -v "$python" >/dev/null 2>&1 && "$python" -I -c {shlex.quote(_ASK)} </dev/null 2>/dev/null\n'
        "done\nexit 0\n"
    )
    answer = shell.run("exec /bin/sh", script)
    found: dict[str, Python] = {}
    for line in marked(answer.out, _MARK):
        python = msgspec.convert(json.loads(line), Python)
        found.setdefault(python.path, python)
    return list(found.values())


def choose(pythons: Sequence[Python], where: str, name: str = "") -> Python:
    """Return the one to use.

    Raises
    ------
    ConfigError
        If there is none; the text says which ones were found, and what to do.
    """
    for python in pythons:
        if not python.trouble:
            return python
    wanted = f"Python {'.'.join(map(str, LEAST))} or later"
    remedy = "name one with `site deploy --python /path/to/python3`; `ssh HOST module avail python` may know of some"
    if name:
        said = f": it is {pythons[0].trouble}" if pythons else ": it cannot be run there"
        raise ConfigError(f"{name} on {where} is no {wanted}{said}; name another with --python")
    there = ", ".join(f"{each} is {each.trouble}" for each in pythons) or "no python3 is on the PATH"
    raise ConfigError(f"{where} has no {wanted}: {there}; {remedy}")


def _word(name: str) -> str:
    """Quote a name for sh, but let it expand ``~/`` at the start."""
    return f"~/{shlex.quote(name[2:])}" if name.startswith("~/") else shlex.quote(name)
