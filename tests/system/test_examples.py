"""The examples as a user runs them: from the command line, each in a copy of its own, to the known answer."""

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pilotmtc.campaign.file import load
from pilotmtc.campaign.submit import TaskSpec, chunks
from pilotmtc.model import PilotDescription, PilotId
from pilotmtc.parameters import grid
from pilotmtc.pilots import start_local
from pilotmtc.protocol.client.campaigns import GetCampaigns
from pilotmtc.protocol.client.pilots import GetPilots
from pilotmtc.protocol.client.tasks import GetOutput, GetTasks
from pilotmtc.protocol.records import Filter
from pilotmtc.states import PILOT_FINAL, PilotState, TaskState
from pilotmtc.store.client.client import StoreClient
from pilotmtc.store.client.connect import connect_store
from pilotmtc.template import make_template

ROOT = Path(__file__).parents[2]
LOGISTIC = """\
r,members,exponent,known
2.5,8,-0.6931,-0.6931
3.2,8,-0.9163,-0.9163
4,8,0.6931,0.6931
"""


class User:
    """Someone at a shell, whose home is a directory of the test's own."""

    def __init__(self, home: Path) -> None:
        self.home = home
        runtime = home / "run"
        runtime.mkdir(mode=0o700)
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PILOTMTC_", "XDG_"))}
        self.env = kept | {
            "HOME": str(home),
            "XDG_RUNTIME_DIR": str(runtime),
            "PILOTMTC_STORE": str(home / "store.db"),
            "PILOTMTC_SERVER_LINGER_S": "0.5",
            "PYTHONPATH": str(ROOT),
        }

    def example(self, name: str) -> Path:
        """Return a copy of the example."""
        return Path(shutil.copytree(ROOT / "examples" / name, self.home / name, ignore=shutil.ignore_patterns("out")))

    def run(self, *words: str, cwd: Path) -> str:
        """Return what ``pilotmtc WORDS`` prints on stdout; it must end well."""
        done = subprocess.run(
            [sys.executable, "-m", "pilotmtc", *words],
            cwd=cwd, env=self.env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=90, check=False,
        )  # fmt: skip
        output: str = done.stdout
        assert done.returncode == 0, f"pilotmtc {' '.join(words)}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return output


@pytest.fixture
def user(tmp_path: Path) -> User:
    return User(tmp_path)


def table(readme: Path, first: str) -> str:
    """Return the table in `readme` that begins with `first`."""
    blocks: list[str] = re.findall(r"```\n(.*?)```", readme.read_text(), re.DOTALL)
    return next(block for block in blocks if block.startswith(first))


def summary(here: Path, counts: str) -> str:
    """Return what the pi example's ``summary.py`` makes of `counts`."""
    argv = [sys.executable, "summary.py"]
    return subprocess.run(
        argv, cwd=here, input=counts, stdout=subprocess.PIPE, text=True, timeout=30, check=True
    ).stdout


def test_parameter_scan_finds_pi(user: User) -> None:
    here = user.example("pi")
    grid_words = ["--grid", "darts=1000,10000,100000", "--grid", "seed=0..19"]
    counts = user.run("run", *grid_words, "--", "python3", "darts.py", "{darts}", "{seed}", cwd=here)
    assert len(counts.splitlines()) == 60
    assert summary(here, counts) == table(here / "README.md", "darts ")


def test_campaign_of_stages_finds_the_exponents(user: User) -> None:
    here = user.example("logistic")
    campaign = user.run("submit", "campaign.toml", cwd=here).strip()
    assert campaign.isdecimal()
    try:
        user.run("pilot", "submit", "--cores", "2", cwd=here)
        user.run("wait", campaign, cwd=here)
        assert (here / "out" / "report.csv").read_text() == LOGISTIC == table(here / "README.md", "r,")
        results = user.run("results", campaign, "--csv", cwd=here).splitlines()
        assert len(results) == 1 + 29
    finally:
        user.run("pilot", "cancel", "--all", cwd=here)


def test_both_run_side_by_side_on_one_pilot(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in user.env.items():
        monkeypatch.setenv(name, value)
    staged, scanned = user.example("logistic"), user.example("pi")
    file = load(staged / "campaign.toml")
    axes = grid(["darts=1000,10000,100000", "seed=0..19"])
    template = make_template(["python3", "darts.py", "{darts}", "{seed}"], axes.fields, cwd=str(scanned))
    store = connect_store()
    try:
        for chunk in chunks(file.tasks(), key="stages", name=file.name, size=8):
            first = store.call(chunk)
        for chunk in chunks((TaskSpec(template, params=row) for row in axes), key="scan", size=25):
            second = store.call(chunk)
        assert (first.received, second.received) == (file.size, axes.size)
        pilot = start_local(store, user.env["PILOTMTC_STORE"], PilotDescription(cores=2, idle_s=0.5))
        wait_over(store, pilot.id)
        assert (staged / "out" / "report.csv").read_text() == LOGISTIC
        done = store.call(GetTasks(Filter(campaign=second.campaign, states=(TaskState.DONE,)))).tasks
        counts = "".join(store.call(GetOutput(task.id)).stdout.decode() for task in done)
        assert summary(scanned, counts) == table(scanned / "README.md", "darts ")
    finally:
        store.close()


FUNCTIONS = {  # how far from what is known the results may be: each is the same whenever it runs
    "fault_tolerance": 0.0,
    "load_balancing": 0.01,
    "memory": 0.0,
    "monte_carlo": 0.05,
    "optimisation": 0.001,
    "optimisation_scipy": 0.001,
    "parameter_scan": 0.01,
    "uncertainty": 0.02,
}


def test_all_programs_with_functions_are_tried() -> None:
    assert {file.stem for file in (ROOT / "examples" / "functions").glob("*.py")} == set(FUNCTIONS)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_find_what_is_known(user: User, name: str) -> None:
    here = user.example("functions")
    done = subprocess.run(
        [sys.executable, "-W", "error", f"{name}.py"],
        cwd=here, env=user.env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=250, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    results = re.findall(r"found (-?[\d.]+)(?: \+- [\d.]+)?, known (-?[\d.]+)", done.stdout)
    results += re.findall(r"^\d+,[\d.]+,(-?[\d.]+),(-?[\d.]+)$", done.stdout, re.MULTILINE)
    assert results, done.stdout
    for found, known in results:
        assert float(found) == pytest.approx(float(known), abs=FUNCTIONS[name]), done.stdout
    if name == "fault_tolerance":
        assert "5 workers killed" in done.stdout
    if name == "memory":
        assert "has made the table 1 time" in done.stdout


def wait_over(store: StoreClient, pilot: PilotId) -> None:
    """Wait until the pilot has run out of work and ended."""
    until = time.monotonic() + 60
    while (found := store.call(GetPilots(id=pilot)).pilots[0]).state not in PILOT_FINAL:
        assert time.monotonic() < until, f"{found}\n{store.call(GetCampaigns())}"
        time.sleep(0.1)
    assert found.state is PilotState.DONE, found.reason
