"""Gathers wheels of pilotmtc and its libraries for the Python of a site. Nothing is compiled."""

import base64
import hashlib
import importlib.util
import os
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from pilotmtc import __version__
from pilotmtc.deploy.python import Python
from pilotmtc.errors import ConfigError

_NAME = "pilotmtc"
_PACKAGES = ("pilotmtc", "pilotmtc_adaptors")
_NETIFACES = "netifaces"  # the package on PyPI would have to be compiled, so ours is sent
_PIP_TIMEOUT_S = 900.0
_OLDEST_GLIBC = 5
_DATE = (1980, 1, 1, 0, 0, 0)  # so that the same files give the same wheel
_PURE = "py3-none-any"
_WHEEL = f"Wheel-Version: 1.0\nGenerator: pilotmtc\nRoot-Is-Purelib: true\nTag: {_PURE}\n"
_OF_THE_INSTALLER = {"RECORD", "INSTALLER", "REQUESTED", "direct_url.json"}


def gather(python: Python, into: Path) -> list[Path]:
    """Put the wheels that `python` needs for this pilotmtc into the empty directory `into`; return their files.

    Libraries have the versions that run here. Those in pure Python are packed from this installation; pip
    downloads the others for the site's platform.

    Raises
    ------
    ConfigError
        If a wheel is not available.
    """
    if importlib.util.find_spec("pip") is None:
        raise ConfigError(f"{sys.executable} has no pip, which gets the libraries for the site: python -m ensurepip")
    own = _installed()
    pack_pilotmtc(own, into)
    pack_netifaces(into)
    compiled = []
    for requirement in [*libraries(own, python.markers), "pip"]:
        name = requirement.partition("==")[0]
        if name != _NETIFACES and not pack(name, into):
            compiled.append(requirement)
    target = [word for tag in platforms(python) for word in ("--platform", tag)]
    version = python.markers["python_version"]
    _pip(
        "download", "--only-binary", ":all:", "--no-deps", "--dest", str(into), *target, "--python-version", version,
        "--implementation", "cp", *compiled,
    )  # fmt: skip
    return sorted(into.iterdir())


def libraries(own: Distribution, markers: dict[str, str]) -> list[str]:
    """Return the libraries that a Python with these markers needs, as requirements with the versions installed here."""
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
    """Return the tags of wheels that run there, best first."""
    machine = python.machine
    if python.libc != "glibc":
        return [f"musllinux_1_2_{machine}", f"musllinux_1_1_{machine}", f"linux_{machine}"]
    newest = int(python.libc_version.split(".")[1])
    tags = [f"manylinux_2_{minor}_{machine}" for minor in range(newest, _OLDEST_GLIBC - 1, -1)]
    old = {"manylinux2014": 17, "manylinux2010": 12, "manylinux1": 5}
    return [*tags, *(f"{name}_{machine}" for name, least in old.items() if newest >= least), f"linux_{machine}"]


def pack_pilotmtc(own: Distribution, into: Path) -> Path:
    """Make a wheel of this pilotmtc in `into`, whether it is installed or runs from its source."""
    contents: dict[str, bytes] = {}
    for package in _PACKAGES:
        root = _root(package)
        for file in sorted(root.rglob("*")):
            if file.is_file() and "__pycache__" not in file.parts:
                contents[f"{package}/{file.relative_to(root)}"] = file.read_bytes()
    info = f"{_NAME}-{__version__}.dist-info"
    for name in ("METADATA", "entry_points.txt"):
        contents[f"{info}/{name}"] = (own.read_text(name) or "").encode()
    return _write(into, contents)


def pack_netifaces(into: Path) -> Path:
    """Make a wheel of the pure netifaces that comes with pilotmtc."""
    root = _root("pilotmtc_adaptors") / _NETIFACES
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    version = project["version"]
    metadata = f"Metadata-Version: 2.1\nName: {_NETIFACES}\nVersion: {version}\n"
    contents = {
        f"{_NETIFACES}.py": (root / f"{_NETIFACES}.py").read_bytes(),
        f"{_NETIFACES}-{version}.dist-info/METADATA": metadata.encode(),
    }
    return _write(into, contents)


def pack(name: str, into: Path) -> Path | None:
    """Make a wheel of an installed library; return None if parts of it are compiled, or its files are not known."""
    try:
        here = distribution(name)
    except PackageNotFoundError:
        return None
    if f"Tag: {_PURE}" not in _tags(here) or here.files is None:
        return None
    contents: dict[str, bytes] = {}
    for file in here.files:
        if file.parts[0] == ".." or "__pycache__" in file.parts:  # programs, made anew from the entry points
            continue
        if file.suffix == ".pth":  # an editable installation: its files are elsewhere
            return None
        if not (file.parts[0].endswith(".dist-info") and file.name in _OF_THE_INSTALLER | {"WHEEL"}):
            contents[str(file)] = Path(str(file.locate())).read_bytes()
    return _write(into, contents)


def _tags(here: Distribution) -> list[str]:
    """Return the ``Tag`` lines of an installed wheel, one for each tag."""
    lines = [line.strip() for line in (here.read_text("WHEEL") or "").splitlines() if line.startswith("Tag:")]
    return [line.replace("py2.py3", "py3") for line in lines]


def _write(into: Path, contents: dict[str, bytes]) -> Path:
    """Write a wheel of pure Python, named after the ``.dist-info`` among its files."""
    (info,) = {top for path in contents if (top := path.partition("/")[0]).endswith(".dist-info")}
    contents = {**contents, f"{info}/WHEEL": _WHEEL.encode()}
    record = "".join(f"{path},sha256={_digest(data)},{len(data)}\n" for path, data in contents.items())
    contents[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n".encode()
    wheel = into / f"{info.removesuffix('.dist-info')}-{_PURE}.whl"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, data in contents.items():
            entry = zipfile.ZipInfo(path, _DATE)
            entry.external_attr = 0o644 << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, data)
    return wheel


def _root(package: str) -> Path:
    """Return the directory of one of our packages."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise ConfigError(f"the package {package} is not found: install pilotmtc here again")
    return Path(spec.origin).parent


def _installed() -> Distribution:
    try:
        own = distribution(_NAME)
    except PackageNotFoundError as error:
        raise ConfigError("pilotmtc is not installed here, but runs from its source: pip install it") from error
    if own.version != __version__:
        raise ConfigError(f"pilotmtc {__version__} is installed here as {own.version}: install it again")
    return own


def _digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")


def _pip(*words: str) -> None:
    argv = [sys.executable, "-E", "-P", "-m", "pip", "--disable-pip-version-check", "--no-input", *words, "--quiet"]
    environment = {name: value for name, value in os.environ.items() if name != "PIP_REQUIRE_VIRTUALENV"}
    try:
        done = subprocess.run(
            argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_PIP_TIMEOUT_S, env=environment,
            check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise ConfigError(f"pip has not come to an end of `pip {words[0]}` within {_PIP_TIMEOUT_S:.0f} s") from error
    if done.returncode:
        raise ConfigError(f"`pip {words[0]}` failed here, so that the libraries are not there: {done.stderr[-1500:]}")
