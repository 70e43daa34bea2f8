"""A wheelhouse: pilotmtc as it is installed here, and its libraries for the Python of a site."""

import base64
import hashlib
import importlib.util
import os
import platform
import re
import subprocess
import sys
import zipfile
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name, parse_sdist_filename

from pilotmtc import __version__
from pilotmtc.deploy.python import Python
from pilotmtc.errors import ConfigError

_NAME = "pilotmtc"
_PACKAGES = ("pilotmtc", "pilotmtc_adaptors")
_PIP_TIMEOUT_S = 900.0
_OLDEST_GLIBC = 5
_DATE = (1980, 1, 1, 0, 0, 0)  # the same files make the same wheel
_EPOCH = "315532800"  # so do sources
_WHEEL = "Wheel-Version: 1.0\nGenerator: pilotmtc\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


def gather(python: Python, into: Path) -> list[Path]:
    """Put all that `python` needs for this pilotmtc into the empty directory `into`; return the files.

    Libraries come in the versions that run here. What is there as source only becomes a wheel, unless it is to be
    compiled for another kind of machine: then it stays source, for the site's own compiler.

    Raises
    ------
    ConfigError
        If something cannot be had.
    """
    if importlib.util.find_spec("pip") is None:
        raise ConfigError(f"{sys.executable} has no pip, which gets the libraries for the site: python -m ensurepip")
    own = _installed()
    pack(own, into)
    target = [word for tag in platforms(python) for word in ("--platform", tag)]
    version = python.markers["python_version"]
    _pip(
        "download", "--no-deps", "--dest", str(into), *target, "--python-version", version, "--implementation", "cp",
        *libraries(own, python.markers), "pip", "setuptools", "wheel",
    )  # fmt: skip
    alike = _alike(python)
    for source in sorted(set(into.iterdir()) - set(into.glob("*.whl"))):
        made = into / "made"
        name, number = parse_sdist_filename(source.name)
        try:  # by name: what pip has made before is the same again
            _pip("wheel", "--no-deps", "--wheel-dir", str(made), f"{name}=={number}")
        except ConfigError:
            if alike:
                raise
            continue  # it can be built on the site only, as it may be
        (wheel,) = made.iterdir()
        if wheel.name.endswith("-none-any.whl") or alike:
            wheel.rename(into / wheel.name)
            source.unlink()
        else:
            wheel.unlink()
        made.rmdir()
    files = sorted(into.iterdir())
    if all(file.suffix == ".whl" for file in files):  # nothing is left to be built there
        for file in [file for file in files if file.name.startswith(("setuptools-", "wheel-"))]:
            files.remove(file)
    return files


def libraries(own: Distribution, markers: dict[str, str]) -> list[str]:
    """Return what a Python with those markers needs besides, as requirements in the versions that are here."""
    found: dict[str, str] = {}
    todo = [(own, frozenset[str]())]
    seen: set[tuple[str, frozenset[str]]] = set()
    while todo:
        package, extras = todo.pop()
        for word in package.requires or ():
            wanted = Requirement(word)
            environments = [{**markers, "extra": extra} for extra in ("", *extras)]
            if wanted.marker is not None and not any(map(wanted.marker.evaluate, environments)):
                continue
            name = canonicalize_name(wanted.name)
            key = (name, frozenset(wanted.extras))
            if key in seen:
                continue
            seen.add(key)
            try:
                here = distribution(name)
            except PackageNotFoundError:  # this Python does not need it
                found[name] = f"{name}{wanted.specifier}"
                continue
            found[name] = f"{name}=={here.version}"
            todo.append((here, key[1]))
    return sorted(found.values())


def platforms(python: Python) -> list[str]:
    """Return the tags of wheels that run there, the best first."""
    machine = python.machine
    if python.libc != "glibc":
        return [f"musllinux_1_2_{machine}", f"musllinux_1_1_{machine}", f"linux_{machine}"]
    newest = int(python.libc_version.split(".")[1])
    tags = [f"manylinux_2_{minor}_{machine}" for minor in range(newest, _OLDEST_GLIBC - 1, -1)]
    old = {"manylinux2014": 17, "manylinux2010": 12, "manylinux1": 5}
    return [*tags, *(f"{name}_{machine}" for name, least in old.items() if newest >= least), f"linux_{machine}"]


def pack(own: Distribution, into: Path) -> Path:
    """Return a wheel of this pilotmtc in `into`, be it installed or run from its source."""
    info = f"{_NAME}-{__version__}.dist-info"
    contents: dict[str, bytes] = {}
    for package in _PACKAGES:
        spec = importlib.util.find_spec(package)
        if spec is None or spec.origin is None:
            raise ConfigError(f"the package {package} is not found: install pilotmtc here again")
        root = Path(spec.origin).parent
        for file in sorted(root.rglob("*")):
            if file.is_file() and "__pycache__" not in file.parts:
                contents[f"{package}/{file.relative_to(root)}"] = file.read_bytes()
    for name in ("METADATA", "entry_points.txt"):
        contents[f"{info}/{name}"] = (own.read_text(name) or "").encode()
    contents[f"{info}/WHEEL"] = _WHEEL.encode()
    record = "".join(f"{name},sha256={_digest(data)},{len(data)}\n" for name, data in contents.items())
    contents[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n".encode()
    wheel = into / f"{_NAME}-{__version__}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in contents.items():
            entry = zipfile.ZipInfo(name, _DATE)
            entry.external_attr = 0o644 << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, data)
    return wheel


def _installed() -> Distribution:
    try:
        own = distribution(_NAME)
    except PackageNotFoundError as error:
        raise ConfigError("pilotmtc is not installed here, but runs from its source: pip install it") from error
    if own.version != __version__:
        raise ConfigError(f"pilotmtc {__version__} is installed here as {own.version}: install it again")
    return own


def _alike(python: Python) -> bool:
    """Return whether what is compiled here runs there."""
    libc, version = platform.libc_ver()
    return (
        python.version[:2] == sys.version_info[:2]
        and python.machine == platform.machine()
        and python.libc == libc
        and _numbers(python.libc_version) >= _numbers(version)
    )


def _numbers(version: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", version)]


def _digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")


def _pip(*words: str) -> None:
    argv = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", *words, "--quiet"]
    environment = {name: value for name, value in os.environ.items() if name != "PIP_REQUIRE_VIRTUALENV"}
    environment["SOURCE_DATE_EPOCH"] = _EPOCH
    try:
        done = subprocess.run(
            argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_PIP_TIMEOUT_S, env=environment,
            check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise ConfigError(f"pip has not come to an end of `pip {words[0]}` within {_PIP_TIMEOUT_S:.0f} s") from error
    if done.returncode:
        raise ConfigError(f"`pip {words[0]}` failed here, so that the libraries are not there: {done.stderr[-1500:]}")
