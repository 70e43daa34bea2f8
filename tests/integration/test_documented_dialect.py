"""The dialect that docs/adaptors.md shows, installed as another package would be, with the real task-spooler."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.machine import ROOT, alone, install
from tests.lab.saga import run_saga
from tests.support import processes_with, wait_until

TEXT = (Path(__file__).parents[2] / "docs" / "adaptors.md").read_text()


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[dict[str, str]]:
    """A task-spooler of its own, and the package: what pip would put there."""
    if ROOT:
        with alone():
            install({"/usr/bin/tsp": "task-spooler"})
    elif shutil.which("tsp") is None:
        pytest.skip("needs task-spooler (Debian: task-spooler)")
    packages = tmp_path / "packages"
    metadata = packages / "tsp_dialect-1.dist-info"
    metadata.mkdir(parents=True)
    (source,) = re.findall(r"^```python\n(# tsp_dialect.py\n.*?)^```", TEXT, re.DOTALL | re.MULTILINE)
    (toml,) = re.findall(r"^```toml\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)
    (packages / "tsp_dialect.py").write_text(source)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: tsp-dialect\nVersion: 1\n")
    (metadata / "entry_points.txt").write_text(
        toml.replace('[project.entry-points."pilotmtc.dialects"]', "[pilotmtc.dialects]").replace('"', "")
    )
    given = {"PYTHONPATH": str(packages), "TS_SOCKET": str(tmp_path / "tsp"), "TS_SLOTS": "2", "TMPDIR": str(tmp_path)}
    yield given
    wait_until(lambda: not processes_with(f"PILOTMTC_STORE_SERVER={tmp_path}"), 20.0)  # which would start another tsp
    subprocess.run(["tsp", "-K"], env={**os.environ, **given}, check=True, timeout=20)


def test_saga_program_runs_jobs_through_it(tmp_path: Path, environment: dict[str, str]) -> None:
    answer = run_saga(
        tmp_path,
        """
        service = saga.job.Service("tsp://localhost/")
        job = service.create_job(describe("/bin/sh", "-c", "echo \\"it's $1\\"; exit 3", "-", "$HOME\\n", name="one",
                                          output=out))
        job.run()
        until(job, "Failed")
        answer = [job.id, job.exit_code, open(out).read()]
        long = service.create_job(describe("/bin/sleep", "60", name="two"))
        long.run()
        until(long, "Running", "Failed")
        assert long.state == "Running", [long.state, __import__("subprocess").getoutput("tsp -l; tsp -i 1")]
        again = saga.job.Service("tsp://localhost/").get_job(long.id)
        answer += [service.bulk.find("two"), again.state, service.list()]
        again.cancel()
        until(again, "Failed", "Canceled")
        answer += [refusal(lambda: service.create_job(describe("/bin/true", queue="q")).run())[1].count("queue ('q')")]
        answer += [refusal(lambda: service.create_job(describe("/bin/true", name="-K")).run())[1].count("'-K'")]
        answer += [refusal(lambda: service.get_job("999"))[0]]
        """,
        environment,
        out=str(tmp_path / "out put"),
    )
    two = "[tsp://localhost/]-[1]"
    assert answer == ["[tsp://localhost/]-[0]", 3, "it's $HOME\n\n", ["1"], "Running", [two], 1, 1, "DoesNotExist"]


def test_pilot_runs_tasks_through_it(tmp_path: Path, environment: dict[str, str]) -> None:
    own = {"PILOTMTC_SERVER_LINGER_S": "0.3"}

    def pilotmtc(*words: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "pilotmtc", "--store", str(tmp_path / "store.db"), *words],
            env={**os.environ, **environment, **own}, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        logs = [log.read_text() for log in tmp_path.glob("store.db.d/pilots/*/agent.log")]
        assert done.returncode == 0, (done.stdout, done.stderr, logs)
        return done.stdout

    words = ("--scheduler", "tsp", "--login", "-", "--cores", "2", "--walltime", "5m", "--idle", "1s")
    pilot = pilotmtc("pilot", "submit", *words).strip()
    pilotmtc("submit", "--cwd", "/", "echo {}", ":::", "1", "2", "3")
    pilotmtc("wait", "--timeout", "50s")
    results = [json.loads(line) for line in pilotmtc("results", "--json").splitlines()]
    assert sorted(each["stdout"] for each in results) == ["1", "2", "3"]
    wait_until(lambda: json.loads(pilotmtc("pilot", "show", pilot, "--json"))["state"] == "DONE", 50.0)
    assert json.loads(pilotmtc("pilot", "show", pilot, "--json"))["batch_id"] == "0"
