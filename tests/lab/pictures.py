"""``make pictures``: the screen's pictures in docs/pictures, taken of a study that really runs.

Its store, its pilots (with several node workers each) and its tasks are real; its programs are stand-ins that wait and
now and then fail. It runs in namespaces with a directory and a host name of its own, so that the pictures show nothing
of the machine that they were taken on.
"""

import contextlib
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from pilotmtc.model import CampaignId, PilotDescription, PilotId
from pilotmtc.protocol.client.pilots import CreatePilot
from pilotmtc.session import Session
from pilotmtc.states import PILOT_FINAL
from pilotmtc.store.client.client import StoreClient
from pilotmtc.store.client.connect import connect_store
from tests.support import processes_with, wait_until
from tests.tui.driving import Driver, drive

_PICTURES = Path(__file__).resolve().parents[2] / "docs" / "pictures"
_HOME = Path("/mnt")  # a file system of its own, in memory
_HOST = "login1"
_LARGE, _SMALL = (132, 36), (110, 26)
_RUNS_S = 75.0
_PREPARE = """\
name = "prepare"

[[task]]
name = "mesh-{level}"
command = "./mesh {level}"
grid = { level = "1..32" }
"""
_SWEEP = """\
name = "sweep"

[defaults]
tags = ["night"]

[[task]]
name = "simulate-{mass}"
command = "./simulate --mass {mass} --seed {seed}"
grid = { mass = "1:20:0.5", seed = "0..59" }
retries = 1
time_limit = 6.5

[[task]]
name = "spectrum-{mass}"
command = "./spectrum {mass}"
grid = { mass = "1:20:0.5" }
after_any = "simulate-{mass}"
"""
_RELAX = """\
name = "relax"

[[task]]
name = "relax-{cell}"
command = "./relax cell-{cell}.cif"
grid = { cell = "1..12" }
cores = 4
priority = 1
"""
_PROGRAMS = {
    "mesh": 'echo "level $1"; sleep 1.$(($1 * 7 % 10)); echo "$((64 * $1)) cells"',
    "simulate": """\
mass=$2 seed=$4
whole=${mass%.*}
tenths=$(((whole * 11 + seed * 37) % 13 + 2))
[ $(((whole + seed) % 97)) = 5 ] && tenths=20
echo "mass $mass, seed $seed, 400 steps"
for step in 100 200 300 400; do
    sleep $((tenths / 10)).$((tenths % 10))
    echo "step $step  energy -$((whole * 31 + seed)).$((step * seed % 97))"
    if [ $step = 300 ] && [ $(((whole * 7 + seed) % 29)) = 0 ]; then
        echo "step $step: the energy is not finite; try a shorter step than 0.02" >&2
        exit 3
    fi
    [ $step = 200 ] && [ $(((whole * 5 + seed) % 83)) = 0 ] && kill -SEGV $$
done
echo "converged"
""",
    "spectrum": 'sleep 0.5; echo "peak at $1"',
    "relax": 'n=${1%.cif}; n=${n#cell-}; sleep $((n * 3 + 8)); echo "forces below 1e-4"',
}


def main() -> None:
    """Run a study and take the pictures."""
    if os.environ.get("HOME") != str(_HOME):
        _enter()
    study = _HOME / "study"
    runtime = _HOME / "run"
    study.mkdir()
    runtime.mkdir(mode=0o700)
    for name, text in _PROGRAMS.items():
        program = study / name
        program.write_text(f"#!/bin/sh\n{text}\n")
        program.chmod(0o755)
    os.chdir(study)
    store = str(study / "store.db")
    try:
        with contextlib.closing(connect_store(store)) as client, Session(store) as session:
            _study(client, session, store)
    finally:
        wait_until(lambda: not processes_with(f"XDG_RUNTIME_DIR={runtime}"), 30.0)


def _enter() -> None:
    """Begin again in namespaces of its own."""
    user = [] if os.geteuid() == 0 else ["--map-root-user"]
    lines = 'mount -t tmpfs -o mode=755 study "$0" && hostname "$1" && shift && exec "$@"'
    env = os.environ | {
        "HOME": str(_HOME), "XDG_RUNTIME_DIR": str(_HOME / "run"), "TZ": "UTC", "PILOTMTC_SERVER_LINGER_S": "0.5",
        "PYTHONPATH": str(_PICTURES.parents[1]), "PILOTMTC_NETWORK": "127.0.0.1",
    }  # fmt: skip
    for name in ("NO_COLOR", "XDG_DATA_HOME", "XDG_CONFIG_HOME", "PILOTMTC_STORE"):
        env.pop(name, None)
    again = [sys.executable, "-m", "tests.lab.pictures"]
    words = ["unshare", *user, "--uts", "--mount", "sh", "-c", lines, str(_HOME), _HOST, *again]
    os.execvpe(words[0], words, env)


def _study(client: StoreClient, session: Session, store: str) -> None:
    with contextlib.ExitStack() as stack:

        def pilot(nodes: int, cores: int, walltime_s: float) -> PilotId:
            description = PilotDescription(nodes=nodes, cores=cores, walltime_s=walltime_s)
            return stack.enter_context(_pilot(client, session, store, description))

        def submit(name: str, text: str) -> CampaignId:
            Path(f"{name}.toml").write_text(text)
            return session.submit_file(f"{name}.toml")

        prepare = submit("prepare", _PREPARE)
        first = pilot(1, 8, 600.0)
        session.wait(prepare, 60.0)
        session.pilots.drain(first)
        submit("sweep", _SWEEP)
        large = pilot(4, 8, 900.0)
        print(f"the study runs for {_RUNS_S:g} s", file=sys.stderr)
        time.sleep(_RUNS_S / 4)
        pilot(2, 8, 300.0)
        time.sleep(_RUNS_S / 2)
        submit("relax", _RELAX)
        time.sleep(_RUNS_S / 4)
        drive(store, lambda screen: _take_large(screen, large), _LARGE)
        drive(store, lambda screen: _take_small(screen, large), _SMALL)


@contextlib.contextmanager
def _pilot(client: StoreClient, session: Session, store: str, description: PilotDescription) -> Iterator[PilotId]:
    """Give a pilot with a node worker for each of its nodes, and end it."""
    directory = Path(f"{store}.d", "pilots", secrets.token_hex(4))
    directory.mkdir(parents=True)
    pilot = client.call(CreatePilot(secrets.token_hex(4), description, str(directory))).pilots[0].id
    words = ["agent", "--pilot", str(pilot), "--directory", str(directory), "--allocation"]
    command = [sys.executable, "-m", "pilotmtc", "--store", store, *words, "--hosts", f"local:{description.nodes}"]
    with (directory / "agent.log").open("wb") as log:
        job = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        wait_until(lambda: session.pilots.get(pilot).nodes == description.nodes, 60.0)
        yield pilot
    finally:
        if session.pilots.get(pilot).state not in PILOT_FINAL:
            session.pilots.cancel(pilot)
        try:
            job.wait(30.0)
        finally:
            job.kill()
            job.wait()


async def _take_large(screen: Driver, pilot: PilotId) -> None:
    await _take(screen, "overview", "failed with exit code 3")
    screen.app.open_pilot(pilot)
    await screen.see("n4")
    await screen.press("3")
    await _take(screen, "slots", "attempts", "n4")


async def _take_small(screen: Driver, pilot: PilotId) -> None:
    await screen.see("failed with exit code 3")
    screen.app.open_tasks("tag:night state:running,done,failed")
    await screen.see("DONE")
    await screen.press("f")
    await _take(screen, "tasks", "following", "RUNNING")
    await screen.press("escape")
    screen.app.open_tasks("state:failed exit:3")
    await screen.see("exit 3")
    await screen.press("enter")
    await _take(screen, "task", "1 Why", "exit 3")
    await screen.press("escape", "escape")
    screen.app.open_pilot(pilot)
    await _take(screen, "nodes", "n4", "■")


async def _take(screen: Driver, name: str, *words: str) -> None:
    """Take a picture once `words`, and what is on every screen, are there."""
    await screen.see("● live", "? Keys", *words)
    _PICTURES.mkdir(exist_ok=True)
    picture = _PICTURES / f"{name}.svg"
    picture.write_text(screen.app.export_screenshot(title="pilotmtc tui", simplify=True), encoding="utf-8")
    print(f"{picture.relative_to(_PICTURES.parents[1])}: {picture.stat().st_size:,} bytes", file=sys.stderr)


if __name__ == "__main__":
    main()
