"""The weak scaling study: as a user runs it, with the engines that need nothing; its numbers and its page."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from examples.weak_scaling import faults, page, plot, realistic
from examples.weak_scaling.engines import ENGINES, Engine, Unavailable, python_of
from examples.weak_scaling.measure import Failed, _lanes, measure, summarise
from examples.weak_scaling.workload import Job, make_tasks
from tests.support import processes_with, wait_until

ROOT = Path(__file__).parents[2]
HERE = ("pilotmtc", "pilotmtc-commands", "multiprocessing", "bash")


def study(*words: str | Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "weak_scaling", *map(str, words)],
        cwd=ROOT / "examples", env=os.environ | {"PYTHONPATH": str(ROOT)}, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=250, check=False,
    )  # fmt: skip


def test_study_of_engines_that_need_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    file = tmp_path / "study.json"
    done = study("run", "--engines", *HERE, "--cores", "3", "--time-scale", "0.001", "--out", file)
    assert done.returncode == 0, done.stderr
    found = json.loads(file.read_text())
    assert [run["engine"] for run in found["runs"]] == list(HERE)
    assert found["versions"].keys() == set(HERE)
    for run in found["runs"]:
        assert len(run["ran"]) == 30
        for (began, ended, _), asked in zip(run["ran"], run["asked_s"], strict=True):
            assert ended - began > asked - 0.001
        numbers = summarise(run)
        assert 0 < numbers.overall < numbers.efficiency <= 1
    lanes = [row[2] for row in found["runs"][-1]["ran"]]  # bash: a static share is one worker's
    assert [len(set(lanes[start : start + 10])) for start in (0, 10, 20)] == [1, 1, 1]
    assert set(lanes) == {0, 1, 2}
    assert list(tmp_path.glob("weak-*")) == []

    assert "is there already" in study("run", "--out", file).stderr
    assert study("join", file, file, "--out", tmp_path / "both.json").returncode == 0
    both = json.loads((tmp_path / "both.json").read_text())
    assert both["runs"] == found["runs"] * 2
    assert both["conditions"]["joined"] == [found["conditions"]["began_at"]] * 2
    shown = study("page", file)
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout == page.text(found)
    assert all(f"| {ENGINES[name].title} |" in shown.stdout for name in HERE)
    drawn = list(plot.draw(found, tmp_path, "svg"))
    assert [each.name for each in drawn] == ["initialisation.svg", "efficiency.svg", "gantt.svg"]
    assert all(each.stat().st_size > 1000 for each in drawn)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("run", "--engines", "slurm"), "no engine is called slurm: there are pilotmtc, "),
        (("run", "--cores", "0"), "0 is not a number of at least 1"),
        (("run", "--time-scale", "-1"), "-1 is not a number above 0"),
        (("run", "--out", "/no/such/place.json"), "there is no such directory"),
        (("plot", "/no/such.json"), "/no/such.json cannot be read: No such file"),
        (("page", str(ROOT / "README.md")), "is no file that run has written"),
    ],
)
def test_bad_input_is_named(words: tuple[str, ...], says: str) -> None:
    done = study(*words)
    assert (done.returncode, done.stdout) == (2, "")
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_what_is_killed_loses_nothing_with_pilotmtc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faults, "TASKS", 9)
    monkeypatch.setattr(faults, "SECONDS", 0.1)
    here = Path(sys.executable)
    for name, victim in (("pilotmtc", "worker"), ("pilotmtc-commands", "agent")):
        found = faults.kill(name, victim, here)
        assert (found["lost"], found["reason"]) == (0, ""), found
    monkeypatch.setattr(faults, "_HANGS_S", 2.0)
    found = faults.kill("multiprocessing", "worker", here)
    assert found["lost"] >= 1
    assert found["reason"] == "nothing happened for 2 s"


def test_tasks_that_wait_for_others_with_pilotmtc() -> None:
    here = Path(sys.executable)
    found = realistic.run("pilotmtc-commands", "graph", here, 1)
    assert (found["tasks"], found["attempts"], found["state"]) == (73, 73, False)
    assert realistic.run("multiprocessing", "graph", here, 1)["cannot"].startswith("calls cannot wait for others")


def test_tasks_of_fewer_workers_are_the_first_of_more() -> None:
    few, many = make_tasks(2), make_tasks(5)
    assert few == many[:20]
    assert all(27 <= task.seconds <= 33 for task in many)
    assert [len(block) for block in Job(3, Path(), many).blocks] == [17, 17, 16]
    assert [task for block in Job(3, Path(), many).blocks for task in block] == many


def test_numbers_of_a_run() -> None:
    # Two workers: 1 s and 3 s, then 1 s; the second one comes half a second late.
    run = {"cores": 2, "took_s": 5.0, "asked_s": [1.0, 3.0, 1.0], "ran": [[1.0, 2.0, 0], [1.5, 4.5, 1], [2.0, 3.0, 0]]}
    found = summarise(run)
    assert (found.first_s, found.filled_s) == (1.0, 1.5)
    assert found.efficiency == pytest.approx(5 / 7)
    assert found.overall == pytest.approx(0.5)
    assert found.greedy == pytest.approx(5 / 6)
    assert summarise(run | {"cores": 3}).filled_s is None


def test_page_says_what_failed_and_what_was_not_run() -> None:
    run = {"engine": "bash", "cores": 1, "took_s": 1.5, "asked_s": [1.0], "ran": [[0.25, 1.25, 0]]}
    found = {
        "conditions": {
            "began_at": "", "python": "", "system": "", "machine_cores": 1, "load_before": 0.1, "load_after": 0.2,
            "time_scale": 0.01, "seed": 1, "per_core": 1, "rounds": 1, "niceness": 0,
        },
        "versions": {"bash": "5", "loky": "3", "pilotmtc": "1"}, "unavailable": {"dask": "there is none"},
        "failed": [{"engine": "bash", "cores": 2, "reason": "it broke"}], "kills": [], "late": [], "realistic": [],
        "runs": [run, run | {"engine": "loky"}, run | {"engine": "pilotmtc", "cores": 2, "took_s": 2.0}],
    }  # fmt: skip
    text = page.text(found)
    assert "| bash scripts, static | 0.25 (0.25) | failed |\n" in text
    assert "| loky (joblib) | 0.25 (0.25) |  |\n" in text
    assert "- bash scripts, static failed on 2 workers: `it broke`\n" in text
    assert "- dask.distributed was left out: there is none.\n" in text
    assert "- On 2 workers, 0 of 0 had a first task earlier than pilotmtc, functions.\n" in text


def test_lanes_are_those_of_workers_or_the_first_that_is_free() -> None:
    rows: list[list[Any]] = [[0, 1.0, 2.0, "b"], [1, 0.5, 4.5, "a"], [2, 2.0, 3.0, "b"], [3, 4.6, 5.0, "a"]]
    assert _lanes(rows) == [1, 0, 1, 0]
    assert _lanes([[*row[:3], ""] for row in rows]) == [1, 0, 1, 0]


def test_engine_that_fails_says_why_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ENGINES, "broken", Engine("broken", "nowhere:run"))
    with pytest.raises(Failed, match=r"exit code 1: .*KeyError: 'broken'"):  # the other process has no such engine
        measure("broken", 1, make_tasks(1, scale=0.001), Path(sys.executable), 60.0)
    with pytest.raises(Failed, match=r"not over after 0\.5 s"):
        measure("bash", 1, make_tasks(1, scale=1.0), Path(sys.executable), 0.5)


def test_study_that_is_told_to_end_leaves_nothing(tmp_path: Path) -> None:
    words = ["run", "--engines", "bash", "--cores", "2", "--time-scale", "10", "--out", str(tmp_path / "study.json")]
    process = subprocess.Popen(
        [sys.executable, "-m", "weak_scaling", *words], cwd=ROOT / "examples", stderr=subprocess.DEVNULL,
        env=os.environ | {"PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)},
    )  # fmt: skip
    try:
        wait_until(lambda: bool(list(tmp_path.glob("weak-*/1.sh"))), 60.0)
        mark = f"XDG_RUNTIME_DIR={next(tmp_path.glob('weak-*'))}"
        wait_until(lambda: len(processes_with(mark)) >= 5, 60.0)  # the driver, and of each worker script and sleep
        process.terminate()
        assert process.wait(60.0) == 143
        assert processes_with(mark) == {}
        assert list(tmp_path.glob("weak-*")) == []
    finally:
        process.kill()
        process.wait()


def test_engine_that_cannot_be_had_says_what_to_install(tmp_path: Path) -> None:
    says = r"there is no no-such-program on the PATH: install it \(on Debian: some-package\)"
    with pytest.raises(Unavailable, match=says):
        python_of(Engine("x", "x:run", "some-package", (("no-such-program", "some-package"),)), tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_drivers_are_short() -> None:
    files = [*(ROOT / "examples" / "weak_scaling" / "drivers").glob("[a-z]*.py")]
    assert {file.name: len(file.read_text().splitlines()) for file in files if file.read_text().count("\n") > 80} == {}
    assert {f"{engine.driver.split(':')[0]}.py" for engine in ENGINES.values()} == {file.name for file in files}
