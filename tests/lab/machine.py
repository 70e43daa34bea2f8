"""What the tests of SSH need of a machine: packages, accounts, and a pilotmtc that those accounts can run.

Where the tests run as root, this is set up once and kept. Elsewhere the tests use the account they run in.
"""

import contextlib
import fcntl
import hashlib
import os
import pwd
import secrets
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec
from msgspec import Struct

ROOT = os.geteuid() == 0
LAB = Path("/var/lib/pilotmtc-lab")
_POLICY = Path("/usr/sbin/policy-rc.d")
_SOURCE = Path(__file__).resolve().parents[2]
_PACKAGES = {
    "/usr/sbin/sshd": "openssh-server",
    "/usr/bin/ssh": "openssh-client",
    "/usr/bin/tcsh": "tcsh",
    "/usr/bin/fish": "fish",
    "/usr/bin/sshfs": "sshfs",
}
_PAM_OATH = "/usr/lib/*/security/pam_oath.so"
_SHELLS = {
    "mtc-store": "/bin/bash",
    "mtc-dash": "/bin/dash",
    "mtc-tcsh": "/usr/bin/tcsh",
    "mtc-fish": "/usr/bin/fish",
    "mtc-noisy": "/bin/bash",
}
_NOISE = 'echo "Welcome to the cluster!"; printf "\\033[1mMaintenance on Monday\\033[0m\\n"; echo "a word aside" >&2\n'


class Account(Struct, frozen=True):
    """A user on the store's side."""

    name: str
    home: Path
    password: str


def accounts() -> dict[str, Account]:
    """Return the accounts by name, made if need be; without root, the own one stands for ``mtc-store``."""
    if not ROOT:
        own = pwd.getpwuid(os.geteuid())
        return {"mtc-store": Account(own.pw_name, Path(own.pw_dir), "")}
    with alone():
        oath = {} if list(Path("/").glob(_PAM_OATH[1:])) else {_PAM_OATH: "libpam-oath"}
        install(_PACKAGES | oath)
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # sshd wants it; without systemd nobody makes it
        password = _password()
        for name, shell in _SHELLS.items():
            _make_user(name, shell, password)
        _make_noisy()
    return {name: Account(name, Path(pwd.getpwnam(name).pw_dir), password) for name in _SHELLS}


def write_launcher(path: Path) -> None:
    """Write a program that runs the pilotmtc under test for any account."""
    python = sys.executable
    if ROOT:
        with alone():
            python = str(_environment())
    path.write_text(
        f"#!/bin/sh\n"
        f"export PILOTMTC_SERVER_LINGER_S=${{PILOTMTC_SERVER_LINGER_S:-0.3}} PYTHONDONTWRITEBYTECODE=1\n"
        f"exec '{python}' -P -m pilotmtc \"$@\"\n"
    )
    path.chmod(0o755)


def account_python() -> Path:
    """Return a Python that has what is tested, for any account."""
    with alone():
        return _environment()


def _environment() -> Path:
    """Return the Python of an environment that has what is tested, and that every account can use."""
    python = _reachable_python()
    source = _reachable(_SOURCE)
    libraries = [source, source / "adaptors", _reachable(Path(msgspec.__file__).parents[1])]
    mark = hashlib.sha256(repr((python, libraries)).encode()).hexdigest()[:12]
    environment = LAB / f"venv-{mark}"
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    packages = environment / "lib" / version / "site-packages"
    if not (packages / "pilotmtc.pth").exists():
        packages.mkdir(parents=True, exist_ok=True)
        (environment / "bin").mkdir(exist_ok=True)
        with contextlib.suppress(FileExistsError):
            (environment / "bin" / "python").symlink_to(python)
        (environment / "pyvenv.cfg").write_text(f"home = {python.parent}\n")
        (packages / "pilotmtc.pth").write_text("".join(f"{each}\n" for each in libraries))
    return environment / "bin" / "python"


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Keep other test processes out."""
    LAB.mkdir(mode=0o755, exist_ok=True)
    with open(LAB / "lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def install(packages: Mapping[str, str]) -> None:
    """Install Debian packages for the programs that are not there. Only while `alone`."""
    missing = sorted({package for program, package in packages.items() if not os.path.exists(program)})
    if missing:
        with _no_services():
            environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
            apt = ["apt-get", "-o", "DPkg::Lock::Timeout=300"]
            words = [*apt, "install", "--yes", "--no-install-recommends", *missing]
            if subprocess.run(words, env=environment, capture_output=True, timeout=600, check=False).returncode:
                subprocess.run([*apt, "update"], env=environment, capture_output=True, timeout=300, check=True)
                subprocess.run(words, env=environment, capture_output=True, timeout=600, check=True)


@contextlib.contextmanager
def _no_services() -> Iterator[None]:
    """Keep the packages from starting services of the system."""
    if _POLICY.exists():  # a container's image brings one that says the same
        yield
        return
    _POLICY.write_text("#!/bin/sh\nexit 101\n")
    _POLICY.chmod(0o755)
    try:
        yield
    finally:
        _POLICY.unlink()


def _password() -> str:
    file = LAB / "password"  # for root's eyes only
    if not file.exists():
        file.touch(0o600)
        file.write_text(secrets.token_urlsafe(12))
    return file.read_text()


def _make_user(name: str, shell: str, password: str) -> None:
    try:
        pwd.getpwnam(name)
    except KeyError:
        home = LAB / "home" / name
        home.parent.mkdir(mode=0o755, exist_ok=True)
        words = ["useradd", "--create-home", "--home-dir", str(home), "--shell", shell, "--comment", "pilotmtc tests"]
        subprocess.run([*words, name], check=True, capture_output=True, timeout=60)
        subprocess.run(["chpasswd"], input=f"{name}:{password}\n".encode(), check=True, timeout=60)


def _make_noisy() -> None:
    # bash reads .bashrc for commands that come over SSH, too, unless the file itself returns early.
    start_up = Path(pwd.getpwnam("mtc-noisy").pw_dir) / ".bashrc"
    if start_up.read_text() != _NOISE:  # others may be logging in just now
        start_up.write_text(_NOISE)


def _reachable(directory: Path) -> Path:
    """Return the directory itself if everybody can get there, else a fresh copy."""
    if _is_open(directory):
        return directory
    copy = _copy_of(directory)
    # Brought up to date each time: the tests may have changed what is in it.
    subprocess.run(["cp", "-au", "--", f"{directory}/.", str(copy)], check=True, capture_output=True, timeout=300)
    return copy


def _reachable_python() -> Path:
    real = Path(sys.executable).resolve()
    base = Path(sys.base_prefix)
    if _is_open(real):
        return real
    copy = _copy_of(real)
    if not (copy / "complete").exists():
        (copy / "bin").mkdir(exist_ok=True)
        shutil.copy2(real, copy / "bin" / real.name)
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        for library in (base / "lib").glob("libpython*.so*"):
            (copy / "lib").mkdir(exist_ok=True)
            shutil.copy2(library, copy / "lib" / library.name)
        skip = shutil.ignore_patterns("site-packages", "test", "idlelib", "tkinter")
        shutil.copytree(base / "lib" / version, copy / "lib" / version, ignore=skip, dirs_exist_ok=True)
        (copy / "complete").touch()
    return copy / "bin" / real.name


def _is_open(path: Path) -> bool:
    return all(parent.stat().st_mode & stat.S_IXOTH for parent in (path, *path.parents))


def _copy_of(directory: Path) -> Path:
    copy = LAB / hashlib.sha256(os.fsencode(directory)).hexdigest()[:12]
    copy.mkdir(mode=0o755, exist_ok=True)
    return copy
