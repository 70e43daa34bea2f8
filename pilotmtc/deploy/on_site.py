"""The part of a deployment that runs on the site: it is sent there as text, to the Python that pilotmtc will use.

``python -c TEXT prepare BASE`` makes directories and lists files; ``python -c TEXT install BASE ORDER`` makes an
environment from the files in ``BASE/wheels`` and lets ``BASE/current`` point to it. An environment is used only when
it is complete, and never changed after that: programs that run in one keep it.
"""

import fcntl
import hashlib
import json
import os
import shlex
import shutil
import subprocess
import sys

MARK = "pilotmtc-deploy: "
_COMPLETE = "pilotmtc-complete"
_STEP_S = 900


class Trouble(Exception):
    """The deployment failed; the text says why."""


def prepare(base: str) -> "dict[str, object]":
    """Make the directories; return their path, and the hashes of the files in them."""
    base = os.path.abspath(os.path.expanduser(base))
    os.makedirs(base, mode=0o700, exist_ok=True)
    for name in ("wheels", "venvs"):
        os.makedirs(os.path.join(base, name), exist_ok=True)
    wheels = os.path.join(base, "wheels")
    hashes = {name: hash_of(os.path.join(wheels, name)) for name in os.listdir(wheels) if not name.startswith(".")}
    return {"base": base, "hashes": hashes}


def install(base: str, order: "dict[str, object]") -> "dict[str, object]":
    """Make the environment `name` from `files` (names and hashes) unless it exists; use it from now on."""
    name, files, version = str(order["name"]), order["files"], str(order["version"])
    assert isinstance(files, dict)
    with open(os.path.join(base, "lock"), "w", encoding="ascii") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise Trouble(f"another deployment into {base} is under way: wait for its end") from error
        venv = os.path.join(base, "venvs", name)
        fresh = not os.path.exists(os.path.join(venv, _COMPLETE))
        if fresh:
            shutil.rmtree(venv, ignore_errors=True)  # from an interrupted deployment
            _make(venv, os.path.join(base, "wheels"), files, version)
        part = os.path.join(base, f".current.{os.getpid()}")
        os.symlink(os.path.join("venvs", name), part)
        os.replace(part, os.path.join(base, "current"))
        others = [each for each in sorted(os.listdir(os.path.join(base, "venvs"))) if each != name]
    return {"command": os.path.join(base, "current", "bin", "pilotmtc"), "fresh": fresh, "others": others}


def _make(venv: str, wheels: str, files: "dict[str, str]", version: str) -> None:
    paths = {name: os.path.join(wheels, name) for name in files}
    for name, path in paths.items():
        if not os.path.exists(path) or hash_of(path) != files[name]:
            raise Trouble(f"{path} is not as it was sent: deploy again")
    run(sys.executable, "-I", "-m", "venv", "--without-pip", venv)  # not every Linux has it
    python = os.path.join(venv, "bin", "python")
    (pip,) = (path for name, path in paths.items() if name.startswith("pip-"))
    install = [python, os.path.join(pip, "pip"), "--isolated", "install", "--no-index", "--no-deps", "--quiet"]
    run(*install, *paths.values())
    run(python, os.path.join(pip, "pip"), "--isolated", "check")
    _write_command(venv, python)
    said = run(os.path.join(venv, "bin", "pilotmtc"), "--version").strip()
    if said != f"pilotmtc {version}":
        raise Trouble(f"the new pilotmtc says that it is {said!r}, not {version}")
    with open(os.path.join(venv, _COMPLETE), "w", encoding="ascii") as file:
        file.flush()
        os.fsync(file.fileno())


def _write_command(venv: str, python: str) -> None:
    """Write its command so that it imports nothing from the current directory or PYTHONPATH."""
    boot = run(python, "-I", "-c", "import pilotmtc.boot; print(pilotmtc.boot.__file__)").strip()
    command = os.path.join(venv, "bin", "pilotmtc")
    with open(f"{command}.new", "w", encoding="utf-8") as file:
        file.write(f'#!/bin/sh\nexec {shlex.quote(python)} -E -P {shlex.quote(boot)} pilotmtc "$@"\n')
    os.chmod(f"{command}.new", 0o755)
    os.replace(f"{command}.new", command)


def run(*argv: str) -> str:
    """Run a program and return its output."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(
        argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_STEP_S, env=environment, check=False
    )
    if done.returncode:
        words = (done.stderr.strip() or done.stdout.strip())[-1500:]
        raise Trouble(f"{' '.join(argv[:4])} ... ended with {done.returncode}: {words}")
    return done.stdout


def hash_of(path: str) -> str:
    """Return a file's SHA-256."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def main(argv: "list[str]") -> int:
    """Run one of the commands in the module's docstring; print the result as a line of JSON."""
    os.umask(0o022)
    try:
        done = prepare(argv[2]) if argv[1] == "prepare" else install(argv[2], json.loads(argv[3]))
    except (Trouble, OSError, subprocess.TimeoutExpired) as error:
        done = {"trouble": str(error)}
    print(MARK + json.dumps(done))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
