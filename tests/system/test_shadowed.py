"""A directory of the user's is full of files that are called like modules, and is on PYTHONPATH, too."""

import json
import os
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pilotmtc import boot
from pilotmtc.model import Pilot, PilotDescription
from pilotmtc.pilots.script import job_script
from pilotmtc.protocol.client.pilots import CreatePilot
from pilotmtc.store.access import keys
from pilotmtc.store.client.connect import connect_store
from tests.serving import Place
from tests.support import wait_until

LIBRARIES = {
    "click", "cloudpickle", "msgspec", "netifaces", "nacl", "packaging", "paramiko", "pilotmtc_adaptors", "radical",
    "rich", "sitecustomize", "sqlite_utils", "textual", "tomlkit", "usercustomize", "zmq",
}  # fmt: skip


class Hostile:
    """The directory. `run` runs a program in it; `imported` are the files of it that were."""

    def __init__(self, directory: Path, store: Path) -> None:
        self.directory = directory / "mine"
        self.directory.mkdir()
        self._log = directory / "imported"
        for name in LIBRARIES | set(sys.stdlib_module_names):
            (self.directory / f"{name}.py").write_text(
                f"open({str(self._log)!r}, 'a').write(__name__ + '\\n')\nraise SystemExit('a file of theirs')\n"
            )
        self.store = store
        self.environment = os.environ | {"PYTHONPATH": str(self.directory), "PILOTMTC_STORE": str(store)}

    def run(self, *argv: str, module: str = "pilotmtc", code: int = 0) -> str:
        done = subprocess.run(
            boot.program(module, *argv), cwd=self.directory, env=self.environment, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == code, done.stderr
        return done.stdout

    @property
    def imported(self) -> set[str]:
        return set(self._log.read_text().split()) if self._log.exists() else set()


@pytest.fixture
def hostile(tmp_path: Path, surroundings: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hostile]:
    place = Place(tmp_path / "store.db")
    found = Hostile(tmp_path, place.path)
    monkeypatch.setenv("PYTHONPATH", str(found.directory))
    yield found
    place.clear()


def test_run_with_its_server_and_agent_imports_none_of_them(hostile: Hostile) -> None:
    said = hostile.run("run", 'echo "$PYTHONPATH"')
    assert (said, hostile.imported) == (f"{hostile.directory}\n", set())


def test_function_workers_import_none_of_them(hostile: Hostile) -> None:
    """Their Python is the user's, so PYTHONPATH counts; here only its directory is full of such files."""
    (hostile.directory / "work.py").write_text("def fail(x):\n    import random, json\n    raise ValueError(x)\n")
    del hostile.environment["PYTHONPATH"]
    hostile.environment["PILOTMTC_LAUNCHER"] = "ranks"
    for words in (["--cores", "1"], ["--ranks", "2", "--cores", "1"]):
        said = hostile.run("map", *words, "work:fail", ":::", "1", code=1)
        assert "ValueError: 1" in json.loads(said)["error"]
    assert hostile.imported == set()


def test_agent_with_node_workers_imports_none_of_them(hostile: Hostile, tmp_path: Path) -> None:
    hostile.run("submit", "echo $PYTHONPATH")
    pilot = a_pilot(hostile, tmp_path)
    words = ("--store", str(hostile.store), "--pilot", str(pilot.id), "--directory", str(tmp_path / "pilot"))
    hostile.run(*words, "--allocation", "--hosts", "local:2", module="pilotmtc.agent")
    assert (hostile.run("logs", "1"), hostile.imported) == (f"{hostile.directory}\n", set())


def test_scheduler_and_the_job_that_it_starts_import_none_of_them(hostile: Hostile) -> None:
    hostile.run("submit", "echo $PYTHONPATH")
    job = PilotDescription(
        cores=1, idle_s=0.5, scheduler="local://localhost/", login="-", setup=("export PILOTMTC_HOSTS=local:1",)
    )
    with connect_store(str(hostile.store), patience_s=30) as store:
        store.call(CreatePilot("p", job))
    hostile.run("wait")
    assert (hostile.run("logs", "1"), hostile.imported) == (f"{hostile.directory}\n", set())
    wait_until(lambda: "ACTIVE" not in hostile.run("status"), 30)


def test_what_a_key_runs_imports_none_of_them(hostile: Hostile) -> None:
    key = keys.new_key(hostile.store, "cluster")
    (line,) = (Path.home() / ".ssh" / "authorized_keys").read_text().splitlines()
    command = line.partition('command="')[2].partition('" ssh-')[0].replace('\\"', '"')
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            child = subprocess.Popen(
                ["/bin/sh", "-c", command], cwd=hostile.directory, env=hostile.environment, stdin=theirs.fileno(),
                stdout=theirs.fileno(),
            )  # fmt: skip
        ours.settimeout(60)
        assert ours.recv(9) == b"\x89pilotmtc", key
    child.wait(60)
    assert hostile.imported == set()


@pytest.mark.parametrize("given", [None, "theirs"])
def test_job_has_the_servers_path_unless_it_has_one_of_its_own(given: str | None) -> None:
    script = job_script(["/bin/sh", "-c", "echo $PYTHONPATH"], environment={"PYTHONPATH": "ours"})
    environment = {"PATH": os.environ["PATH"]} | ({} if given is None else {"PYTHONPATH": given})
    done = subprocess.run(["/bin/sh", "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == f"{given or 'ours'}\n"


def test_libraries_that_only_the_path_leads_to_are_found(tmp_path: Path) -> None:
    (tmp_path / "only_here.py").write_text("print('found')\n")
    line = " ".join(map(shlex.quote, boot.program("only_here")))
    done = subprocess.run(
        ["/bin/sh", "-c", line],
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "found\n"


def a_pilot(hostile: Hostile, tmp_path: Path) -> Pilot:
    directory = tmp_path / "pilot"
    directory.mkdir(0o700)
    with connect_store(str(hostile.store), patience_s=30) as store:
        return store.call(CreatePilot("p", PilotDescription(cores=1, idle_s=0.5), str(directory))).pilots[0]
