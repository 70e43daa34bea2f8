"""What is pure of the weak scaling study: its workloads, what a journal comes to, its tables and its page."""

import random
from pathlib import Path
from typing import Any

import pytest

from examples.weak_scaling import faults, page, realistic, tables
from examples.weak_scaling.drivers.hypershell import levels
from examples.weak_scaling.engines import ENGINES
from examples.weak_scaling.measure import Failed
from examples.weak_scaling.workload import Note, Task, read_journal, work


def workload(kind: str) -> list[Task]:
    made = realistic.KINDS[kind]
    return made.make(made.cores, random.Random(1), "/place")


def notes(*rows: tuple[str, int, float]) -> list[Note]:
    return [Note(event, number, at, 100 + number, 1) for event, number, at in rows]


@pytest.mark.parametrize("kind", realistic.KINDS)
def test_workload_is_the_same_each_time_and_keeps_a_journal(kind: str) -> None:
    tasks = workload(kind)
    assert tasks == workload(kind)
    assert [task.number for task in tasks] == list(range(len(tasks)))
    assert {task.place for task in tasks} == {"/place"}
    assert max(task.cores for task in tasks) <= realistic.KINDS[kind].cores
    assert all(number < task.number for task in tasks for number in task.after)


def test_workloads_are_what_they_are_called() -> None:
    durations = sorted(task.seconds for task in workload("lognormal"))
    assert 0.008 < durations[len(durations) // 2] < 0.012
    assert sum(task.kind == "fail" for task in workload("failing")) * 100 == len(workload("failing"))
    assert {task.cores for task in workload("mixed")} == {1, 4, 8}
    level = levels(workload("graph"))
    assert [list(level.values()).count(each) for each in range(3)] == [64, 8, 1]


def test_task_notes_when_it_began_and_that_it_failed_the_first_time(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="fails the first time"):
        work(Task(3, 0.0, "fail", str(tmp_path)))
    work([3, 0.0, "fail", str(tmp_path)])
    found = read_journal(tmp_path)
    assert [(note.event, note.number) for note in found] == [
        ("began", 3), ("failed", 3), ("began", 3), ("ended", 3)
    ]  # fmt: skip
    assert found[2].calls == found[0].calls + 1


def test_line_of_the_journal_that_is_being_written_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "journal").write_text("began 1 5.5 77 1\nbegan 12 6.")
    assert read_journal(tmp_path) == [Note("began", 1, 5.5, 77, 1)]


def test_what_was_lost_and_what_was_done_twice() -> None:
    found = faults.count(
        notes(("began", 0, 1.0), ("ended", 0, 2.0), ("began", 1, 2.0), ("ended", 0, 9.0), ("ended", 2, 5.0)), 4, 3.0
    )
    assert found == {"tasks": 4, "lost": 2, "twice": 1, "took_s": 2.0}


def test_when_so_many_tasks_first_ran_at_the_same_time() -> None:
    rows = notes(("began", 0, 1.0), ("ended", 0, 2.0), ("began", 1, 2.0), ("began", 2, 3.0), ("failed", 1, 4.0))
    assert faults.busy_from(rows) == {0: 2.0, 1: 1.0, 2: 3.0}


def test_numbers_of_realistic_tasks() -> None:
    tasks = [Task(0, 1.0, cores=2), Task(1, 1.0, after=(0,))]
    rows = notes(("began", 0, 1.0), ("ended", 0, 2.0), ("began", 1, 2.5), ("ended", 1, 3.5))
    found = realistic.summarise(tasks, rows, 2, 0.5)
    assert (found["first_s"], found["span_s"], found["efficiency"], found["state"]) == (0.5, 2.5, 0.6, False)
    together = notes(("began", 0, 1.0), ("began", 1, 1.5), ("ended", 0, 2.0), ("ended", 1, 3.0))
    with pytest.raises(Failed, match="task 1 began before one that it waits for had ended"):
        realistic.summarise(
            tasks, notes(("began", 0, 1.0), ("began", 1, 1.5), ("ended", 0, 2.0), ("ended", 1, 3)), 4, 0
        )
    with pytest.raises(Failed, match="3 cores were in use, of 2"):
        realistic.summarise([tasks[0], Task(1, 1.0)], together, 2, 0.0)


def study() -> dict[str, Any]:
    run = {"cores": 2, "took_s": 2.0, "asked_s": [1.0, 1.0], "ran": [[0.5, 1.5, 0], [0.5, 1.5, 1]]}
    runs = [
        run | {"engine": name, "cores": cores, "peak_bytes": peak}
        for name, cores, peak in (("pilotmtc", 2, 50_000_000), ("pilotmtc", 4, 70_000_000), ("loky", 2, 0))
    ]
    done = {"tasks": 32, "lost": 0, "twice": 0, "took_s": 2.0, "reason": "", "again": None}
    return {
        "conditions": {
            "began_at": "then", "python": "3", "system": "Linux", "machine_cores": 2, "niceness": 0, "seed": 1,
            "load_before": 1.5, "load_after": 2.0, "time_scale": 0.01, "per_core": 1, "rounds": 1,
        },
        "versions": {"pilotmtc": "1", "loky": "3"}, "unavailable": {"dask": "there is none"}, "failed": [],
        "runs": runs,
        "kills": [
            done | {"engine": "pilotmtc", "victim": "worker"},
            done | {"engine": "loky", "victim": "worker", "reason": "it hung", "lost": 3},
            done | {"engine": "loky", "victim": "program", "reason": "nothing went on", "again": "", "twice": 11},
            {"engine": "bash", "victim": "worker", "failed": "no | such"},
        ],
        "late": [
            {"engine": "pilotmtc", "asked": 4, "busy": 4, "used_s": 1.25},
            {"engine": "dask", "asked": 4, "busy": 4, "used_s": 0.5},
            {"engine": "loky", "cannot": "it is fixed"},
            {"engine": "parsl", "asked": 4, "busy": 2, "used_s": None},
        ],
        "realistic": [
            {"engine": "pilotmtc", "kind": "lognormal", "efficiency": 0.5, "state": True},
            {"engine": "loky", "kind": "lognormal", "efficiency": 0.75, "state": True},
            {"engine": "loky", "kind": "mixed", "cannot": "it is fixed"},
            {"engine": "loky", "kind": "graph", "cannot": "it has none"},
            {"engine": "bash", "kind": "failing", "failed": "it broke"},
        ],
    }  # fmt: skip


def test_tables() -> None:
    assert tables.kills(study()).splitlines()[2:] == [
        "| pilotmtc, functions | worker | yes |  | 0 | 0 |",
        "| bash scripts, static | worker | not measured: no / such |  |  |  |",
        "| loky (joblib) | worker | no: it hung |  | 3 | 0 |",
        "| loky (joblib) | program | no: nothing went on | yes | 0 | 11 |",
    ]
    assert tables.late(study()).splitlines()[2:] == [
        "| pilotmtc, functions | 1.2 | 4 of 4 |",
        "| Parsl, HTEX | not in time | 2 of 4 |",
        "| dask.distributed | 0.5 | 4 of 4 |",
        "| loky (joblib) | - (1) | - (1) |",
        "",
        "1. it is fixed",
    ]
    assert tables.memory(study()).splitlines()[2:] == [
        "| pilotmtc, functions | 10 | 30 | yes |",
        "| loky (joblib) |  |  | yes |",
    ]
    assert tables.realistic(study()).splitlines()[2:] == [
        "| pilotmtc, functions | 0.50 |  |  |  |  |",
        "| bash scripts, static |  |  |  | - (1) |  |",
        "| loky (joblib) | 0.75 |  | - (2) |  | - (3) |",
        "",
        "1. failed: it broke",
        "2. it is fixed",
        "3. it has none",
    ]


def test_page_has_all_parts_and_the_losses() -> None:
    text = page.text(study(), pictures=True)
    for part in (tables.kills(study()), tables.late(study()), tables.memory(study()), tables.realistic(study())):
        assert part in text
    assert "the machine was in use by other programs" in text
    assert "](pictures/study/gantt.svg)" in text
    assert "1 of 1 were more efficient than pilotmtc, functions: loky (joblib).\n" in text
    assert "- 1 used late workers sooner than pilotmtc, functions: dask.distributed.\n" in text
    assert "- dask.distributed was left out: there is none.\n" in text
    assert "| loky (joblib) | 3 |\n" in text


def test_page_of_one_part_has_no_other() -> None:
    only = study() | {"runs": [], "kills": [], "realistic": []}
    text = page.text(only)
    assert [line for line in text.splitlines() if line.startswith("## ")] == [
        "## Late workers", "## Where others are better", "## Engines",
    ]  # fmt: skip
    assert "in use by other" not in page.text(only | {"conditions": only["conditions"] | {"load_before": 0.1}})


def test_engines_say_why_they_cannot() -> None:
    known = {"late", *realistic.KINDS}
    assert {name: set(engine.cannot) - known for name, engine in ENGINES.items() if set(engine.cannot) - known} == {}
    assert all(faults.victims(name)[:2] == ["worker", "program"] for name in ENGINES)
