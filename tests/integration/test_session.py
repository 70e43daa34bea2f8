"""The Python API on a real store with real pilots."""

import functools
import itertools
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pilotmtc.errors import ConfigError, StoreError, SubmitRejected, UsageError
from pilotmtc.parameters import combine, file, grid
from pilotmtc.protocol.base import Changed
from pilotmtc.session import Session, as_source, make_tasks, read_campaign
from pilotmtc.states import Cause, PilotState, TaskState
from pilotmtc.store.sqlite import SqliteStore
from tests.support import wait_until


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    with Session(tmp_path / "store.db") as session:
        yield session
        for pilot in session.pilots:
            session.pilots.cancel(pilot.id)
            session.pilots.wait(pilot.id, 20)


def names(session: Session, campaign: int) -> list[str | None]:
    return [task.name for task in session.tasks(campaign=campaign)]


def test_from_submission_to_results(session: Session) -> None:
    campaign = session.submit(
        "echo $(({mass} * {mass} + {seed})); echo note >&2", {"mass": [1, 2, 3], "seed": range(4)}, name="squares",
        task_name="m{mass}-s{seed}", tags=["t{mass}"],
    )  # fmt: skip
    pilot = session.pilots.submit(cores=2, idle=0.5)
    assert (pilot.state, pilot.cores, pilot.host != "") == (PilotState.ACTIVE, 2, True)
    found = session.wait(campaign, 30)
    assert (found.name, found.received, found.sealed, found.counts) == ("squares", 12, True, {TaskState.DONE: 12})
    results = list(session.results(campaign=campaign))
    assert [(r.params["mass"], r.params["seed"], int(r.text)) for r in results] == [
        (str(mass), str(seed), mass * mass + seed) for mass in (1, 2, 3) for seed in range(4)
    ]
    first = results[0]
    assert (first.ok, first.name, first.tags, first.exit_code, first.error_text) == (
        True,
        "m1-s0",
        ("t1",),
        0,
        "note\n",
    )
    assert session.pilots.wait(pilot.id, 20).state is PilotState.DONE


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        (None, [{}]),
        ({"a": [1, 2.5], "b": ["x"]}, [{"a": "1", "b": "x"}, {"a": "2.5", "b": "x"}]),
        ([{"a": 1, "b": "x y"}, {"b": 3, "a": 2}], [{"a": "1", "b": "x y"}, {"a": "2", "b": "3"}]),
        (({"a": n} for n in range(2)), [{"a": "0"}, {"a": "1"}]),
        ([1, "two"], [{"1": "1"}, {"1": "two"}]),
        (iter(["one"]), [{"1": "one"}]),
        (range(2), [{"1": "0"}, {"1": "1"}]),
        (grid(["a=1:2:0.5"]), [{"a": "1"}, {"a": "1.5"}, {"a": "2"}]),
        (combine([as_source([7]), grid(["a=0..1"])]), [{"1": "7", "a": "0"}, {"1": "7", "a": "1"}]),
    ],
)
def test_parameters_of_every_kind(session: Session, params: object, expected: list[dict[str, str]]) -> None:
    campaign = session.submit("true", params)  # type: ignore[arg-type]  # each is one of the kinds
    assert [task.params for task in session.tasks(campaign=campaign)] == expected


def test_parameters_out_of_a_file(session: Session, tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("mass,seed\n1.50,3\n")
    campaign = session.submit("true", file(tmp_path / "p.csv"))
    assert [task.params for task in session.tasks(campaign=campaign)] == [{"mass": "1.50", "seed": "3"}]


def test_endless_parameters_stream(session: Session) -> None:
    taken = []

    def values() -> Iterator[int]:
        for n in itertools.count():
            if n == 30_000:
                raise RuntimeError("enough")
            taken.append(n)
            yield n

    with pytest.raises(RuntimeError, match="enough"):
        session.submit("true", values())
    # What had been submitted of it is canceled: nobody knows its number.
    (campaign,) = session.campaigns()
    assert campaign.sealed
    assert set(campaign.counts) == {TaskState.CANCELED}
    assert len(taken) == 30_000


def test_source_may_wait_for_the_results_of_what_it_has_given(session: Session) -> None:
    session.pilots.submit(cores=2, idle="60s")
    sums = [0]

    def ask() -> Iterator[int]:
        for point in range(4):
            yield point
            wait_until(functools.partial(told, point))

    def told(point: int) -> bool:
        found = [int(one.text) for one in session.results() if one.params["1"] == str(point)]
        sums.extend(found)
        return bool(found)

    campaign = session.submit("echo $(({} * 2))", ask())
    assert session.campaign(campaign).counts == {TaskState.DONE: 4}
    assert sums == [0, 0, 2, 4, 6]


@pytest.mark.parametrize(("form", "text"), [("jsonl", '{"a": 1}\n'), ("csv", "a\n1\n"), ("lines", "1\n")])
def test_rows_that_come_through_a_pipe_are_submitted_while_more_may_come(
    session: Session, form: str, text: str
) -> None:
    ours, theirs = os.pipe()
    with open(theirs, "w", encoding="utf-8", buffering=1) as writer:
        writer.write(text)
        source = file(f"/dev/fd/{ours}", form)
        submission = threading.Thread(target=lambda: session.submit("true", source))
        submission.start()
        wait_until(lambda: [one.received for one in session.campaigns()] == [1])
        (campaign,) = session.campaigns()
        assert not campaign.sealed
    submission.join()
    os.close(ours)
    assert session.campaign(campaign.id).sealed


def test_source_that_fails_after_a_while_leaves_nothing_to_run(session: Session) -> None:
    def values() -> Iterator[int]:
        yield 1
        wait_until(lambda: [one.received for one in session.campaigns()] == [1])
        raise ZeroDivisionError("a bug of the user's")

    with pytest.raises(ZeroDivisionError):
        session.submit("true", values())
    assert [one.counts for one in session.campaigns()] == [{TaskState.CANCELED: 1}]


def test_options_of_tasks(session: Session, tmp_path: Path) -> None:
    campaign = session.submit(
        ["echo", "{n}"], {"n": [1]}, cores=2, gpus=0.5, memory="1G", resources={"licence": 1}, time_limit="5m",
        expected=90, priority=3, retries=2, backoff="1s", max_output="1M", env={"A": "{n}"}, cwd="sub", stdin="in",
        stdout="out-{n}",
    )  # fmt: skip
    detail = session.task(next(session.tasks(campaign=campaign)).id)
    assert detail.task is not None
    assert detail.template is not None
    needs = detail.task.resources
    assert (needs.cores, needs.gpus, needs.memory_bytes, needs.named) == (2, 0.5, 1 << 30, {"licence": 1.0})
    assert (needs.time_limit_s, needs.expected_s, detail.task.priority, detail.task.max_retries) == (300, 90, 3, 2)
    template = detail.template
    assert (template.env, template.cwd, template.stdin) == ({"A": "{n}"}, os.path.join(os.getcwd(), "sub"), "in")
    assert (template.stdout, template.backoff_s, template.max_output_bytes) == ("out-{n}", 1.0, 1 << 20)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda s: s.submit("echo {mas}", {"mass": [1]}), "did you mean {mass}"),
        (lambda s: s.submit("", [1]), "the command is empty"),
        (lambda s: s.submit("true", "text"), "give a list of values"),
        (lambda s: s.submit("true", {"a": "text"}), "give a list of values"),
        (lambda s: s.submit("true", []), "there are no tasks"),
        (lambda s: s.submit("true", [{"a": 1}, {"b": 1}]), "row 2 of params"),
        (lambda s: s.submit("true", [{"a": 1}, 3]), "row 2 of params"),
        (lambda s: s.submit("true", ["a\0b"]), "NUL"),
        (lambda s: s.submit("true", cores=0), "0 cores"),
        (lambda s: s.submit("true", gpus=float("nan")), "nan GPUs"),
        (lambda s: s.submit("true", resources={"a": float("inf")}), "inf of a"),
        (lambda s: s.submit("true", memory="much"), "'much'"),
        (lambda s: s.submit("true", time_limit=-1), "-1"),
        (lambda s: s.submit("true", after=[99]), "no task 99"),
        (lambda s: s.submit("true", priority=2**40), "priority"),
        (lambda s: s.campaign(9), "no campaign 9"),
        (lambda s: s.task(9), "no task 9"),
        (lambda s: s.output(9), "no task 9"),
        (lambda s: s.wait(9), "no campaign 9"),
        (lambda s: next(s.follow(9)), "no campaign 9"),
        (lambda s: s.pilots.get(9), "no pilot 9"),
        (lambda s: s.pilots.submit(cores=-1), "-1 cores"),
        (lambda s: s.pilots.submit(campaign=9), "no campaign 9"),
        (lambda s: s.pilots.submit(walltime="x"), "'x'"),
        (lambda s: s.pilots.submit(scheduler="slurm", constraint='lab & "x y"'), "constraint .* holds blanks"),
        (lambda s: s.pilots.submit(scheduler="slurm", reservation="no such"), "reservation 'no such' holds blanks"),
        (lambda s: s.pilots.submit(scheduler="pbs", account="-x"), "account '-x' begins"),
        (lambda s: s.pilots.submit(scheduler="slurm", walltime="5m", signal="10m"), "--signal 10m00s before"),
        (lambda s: s.cancel(), "which tasks"),
        (lambda s: s.retry(states=None), "which tasks"),
        (lambda s: s.edit({}, campaign=1), "nothing to change"),
        (lambda s: s.edit({"gpus": 1.5}, campaign=1), "1.5 GPUs"),
        (lambda s: s.edit({"priority": 2**40}, campaign=1), "priority"),
        (lambda s: list(s.tasks(states=["runing"])), "did you mean running"),
        (lambda s: list(s.tasks(causes=["bored"])), "is not a cause"),
        (lambda s: s.cancel(tags=[]), "tags is empty"),
        (lambda s: s.cancel(ids=iter(())), "ids is empty"),
        (lambda s: s.cancel(campaign=[]), "campaign is empty"),
        (lambda s: s.cancel(names=["a", ""]), "names=.* holds an empty text"),
        (lambda s: s.cancel(filter=""), "the filter '' is empty"),
        (lambda s: s.retry(all=False), "which tasks"),
        (lambda s: s.retry(all=True, tags=["x"]), "leave out all=True, or tags"),
        (lambda s: s.edit({"priority": 1}, states=()), "states is empty"),
        (lambda s: s.edit({"priority": "high"}, all=True), "priority='high' is not a whole number"),
        (lambda s: list(s.tasks(tags="night")), r"give a list, as in tags=\['night'\]"),
        (lambda s: list(s.tasks(ids=17)), r"ids=17 is one value"),
        (lambda s: list(s.tasks(campaign=3.5)), "campaign=3.5 is not a whole number"),
        (lambda s: list(s.tasks(campaign="3")), "there is no campaign 3"),
        (lambda s: list(s.results(exit_codes=[None])), "exit_codes=None"),
        (lambda s: s.fields(causes=[]), "causes is empty"),
        (lambda s: s.wait([1, 2]), r"campaign=\[1, 2\] is not a whole number"),
        (lambda s: s.wait(True), "campaign=True"),
        (lambda s: s.task("17"), "task='17'"),
        (lambda s: s.pilots.get("1"), "pilot='1'"),
        (lambda s: s.pilots.submit(cores="4"), "cores='4'"),
        (lambda s: s.pilots.submit(pin="no"), "pin='no' is neither True nor False"),
        (lambda s: s.pilots.submit(setup="module load x"), "setup=.* give a list"),
        (lambda s: s.submit(["cat", None]), "command=None"),
        (lambda s: s.submit(["cat", b"x"]), "command=b'x'"),
        (lambda s: s.submit("true", env={"A": None}), r"env\['A'\]=None is not one value"),
        (lambda s: s.submit("true", env=["A=1"]), "is not a mapping"),
        (lambda s: s.submit("true", cores="2"), "cores='2'"),
        (lambda s: s.submit("true", cores=1.5), "cores=1.5"),
        (lambda s: s.submit("true", time_limit=[5]), r"time_limit=\[5\]"),
        (lambda s: s.submit("true", tags="x"), r"tags=\['x'\]"),
        (lambda s: s.submit("true", after=1), r"after=\[1\]"),
        (lambda s: s.submit("true", stdout=1), "stdout=1 is not a path"),
        (lambda s: s.run(None), "nothing to run"),
        (lambda s: s.run(None, campaign=9), "no campaign 9"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_said(session: Session, call: object, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        call(session)  # type: ignore[operator]  # a list of lambdas has no better type
    assert not list(session.tasks(states=["ready", "waiting", "running"]))
    assert not session.pilots.list(ended=True)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda s: s.cancel(tag="x"), "'tag': did you mean 'tags'"),
        (lambda s: s.cancel(campaigns=3), "'campaigns': did you mean 'campaign'"),
        (lambda s: s.retry(state=["failed"]), "'state': did you mean 'states'"),
        (lambda s: s.edit({"priority": 1}, name="x"), "'name': did you mean 'names'"),
        (lambda s: s.edit({"prio": 1}, all=True), "'prio': did you mean 'priority'"),
        (lambda s: s.tasks(limits=1), "'limits': did you mean 'limit'"),
        (lambda s: s.results(output=False), "'output': did you mean 'outputs'"),
        (lambda s: s.fields(bogus=1), "'bogus': there are ids, campaign, "),
        (lambda s: s.submit("true", retry=3), "'retry': did you mean 'retries'"),
        (lambda s: s.submit("true", timeout=1), "'timeout': did you mean 'time_limit'"),
        (lambda s: s.submit("true", parms=[1]), "'parms': did you mean 'params'"),
        (lambda s: s.pilots.submit(core=1), "'core': did you mean 'cores'"),
        (lambda s: s.pilots.describe(wall_time=1), "'wall_time': did you mean 'walltime'"),
    ],
)
def test_misspelt_keyword_is_an_error_as_it_is_in_python(session: Session, call: object, words: str) -> None:
    session.submit("true", range(2))
    with pytest.raises(TypeError, match=words):
        call(session)  # type: ignore[operator]  # a list of lambdas has no better type
    assert [task.state for task in session.tasks()] == [TaskState.READY] * 2
    assert not session.pilots.list(ended=True)


def test_all_tasks_are_meant_where_that_is_said(session: Session) -> None:
    first = session.submit("true", range(2))
    second = session.submit("true", range(3))
    session.submit("true")
    assert len(list(session.tasks(all=True))) == 6
    assert len(list(session.tasks(campaign=[first, second]))) == 5
    assert session.cancel(campaign=iter([first, second])).changed == 5
    assert session.cancel(all=True) == Changed(1, 5)


def test_words_of_a_command_may_be_paths_and_numbers(session: Session, tmp_path: Path) -> None:
    session.submit(["cat", tmp_path / "x", 3, 0.5], env={"A": 1, "B": tmp_path}, cwd=tmp_path, stdout=tmp_path / "out")
    detail = session.task(1)
    assert detail.template is not None
    assert detail.template.command == ("cat", f"{tmp_path}/x", "3", "0.5")
    assert detail.template.env == {"A": "1", "B": str(tmp_path)}
    assert (detail.template.cwd, detail.template.stdout) == (str(tmp_path), str(tmp_path / "out"))


def test_place_that_is_none_is_refused(tmp_path: Path) -> None:
    for place in ("http://host/x", tmp_path):
        with pytest.raises(ConfigError), Session(place) as session:
            session.info()


def test_same_key_submits_once(session: Session) -> None:
    tasks = make_tasks("echo {}", as_source(range(5000)), {})
    seen: list[int] = []
    first = session.submit_tasks(tasks, key="mine", on_submitted=lambda answer: seen.append(answer.received))
    assert session.submit_tasks(tasks, key="mine") == first
    assert session.campaign(first).received == 5000
    assert seen[-1] == 5000
    assert len(session.campaigns()) == 1


def test_campaign_file(session: Session, tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text('name = "x"\n[[task]]\nname = "a"\ncommand = "true"\n[[task]]\ncommand = "true"\nafter = "a"\n')
    campaign = session.submit_file(path)
    assert session.campaign(campaign).counts == {TaskState.READY: 1, TaskState.WAITING: 1}
    tasks, name = read_campaign(path)
    assert (tasks.size, name) == (2, "x")


def test_selections_choose_tasks(session: Session) -> None:
    first = session.submit("true", {"n": range(5)}, task_name="a{n}", tags=["odd", "x{n}"])
    second = session.submit("true", {"n": range(2)}, task_name="b{n}")
    assert names(session, second) == ["b0", "b1"]
    assert [task.name for task in session.tasks(names=["a?"], limit=2)] == ["a0", "a1"]
    assert [task.name for task in session.tasks(newest=True, limit=1)] == ["b1"]
    assert [task.name for task in session.tasks(tags=["odd", "x3"])] == ["a3"]
    assert [task.id for task in session.tasks(ids=[2, 7, 99])] == [2, 7]
    assert len(list(session.tasks(campaign=first, states=[TaskState.READY, "done"]))) == 5
    assert session.fields(campaign=first) == ("n",)


def test_steering_changes_tasks(session: Session) -> None:
    campaign = session.submit("true", {"n": range(4)})
    assert session.edit({"priority": 7, "cores": 2}, ids=[1, 2]).changed == 2
    changed = next(session.tasks(ids=[2]))
    assert (changed.priority, changed.resources.cores) == (7, 2)
    assert session.cancel(campaign=campaign).changed == 4
    assert session.cancel(campaign=campaign).unfit == 4
    assert session.retry(ids=[1]).changed == 1
    assert session.campaign(campaign).counts == {TaskState.READY: 1, TaskState.CANCELED: 3}


def test_following_tells_each_end_once(session: Session) -> None:
    campaign = session.submit("exit $(({} % 7 == 0))", range(1, 200))
    steps = session.follow(campaign)
    assert not next(steps).ended  # it tells what comes after this
    session.pilots.submit(cores=2)
    ended: dict[int, TaskState] = {}
    missed = False
    for step in steps:
        missed = missed or step.missed
        for task, state in step.ended:
            assert task not in ended
            ended[task] = state
    assert not missed
    assert len(ended) == 199
    assert sum(state is TaskState.FAILED for state in ended.values()) == 28
    assert step.complete


def test_waiting_has_an_end(session: Session) -> None:
    campaign = session.submit("true")
    with pytest.raises(TimeoutError, match=f"campaign {campaign} has not finished after 0.2 s"):
        session.wait(campaign, 0.2)
    pilot = session.pilots.submit(cores=1, campaign=campaign)
    with pytest.raises(TimeoutError, match=f"pilot {pilot.id} is still"):
        session.pilots.wait(pilot.id, 0.1)


def test_results_and_attempts_of_what_failed(session: Session) -> None:
    campaign = session.submit("echo try {attempt}; exit {attempt}", retries=1)
    after = session.submit("true", after=[1])
    session.pilots.submit(cores=1)
    session.wait(campaign, 30)
    (result,) = session.results(campaign=campaign)
    assert (result.ok, result.cause, result.exit_code, result.attempt) == (False, Cause.EXIT, 2, 2)
    (skipped,) = session.results(campaign=after)
    assert (skipped.state, skipped.cause, skipped.attempt) == (TaskState.SKIPPED, None, 0)
    detail = session.task(1)
    assert [attempt.exit_code for attempt in detail.attempts] == [1, 2]
    assert session.output(1).stdout == b"try 2\n"
    assert session.output(1, 1).stdout == b"try 1\n"
    assert list(session.results(campaign=campaign, states=["done"])) == []
    assert [r.id for r in session.results(exit_codes=[2], causes=["exit"])] == [1]


def test_large_output_is_whole_if_it_is_wanted(session: Session) -> None:
    campaign = session.submit("head -c 300000 /dev/zero | tr '\\0' y")
    session.pilots.submit(cores=1)
    session.wait(campaign, 30)
    (short,) = session.results(campaign=campaign)
    (whole,) = session.results(campaign=campaign, whole=True)
    assert len(short.stdout) < 70_000
    assert whole.stdout == b"y" * 300_000
    assert (short.stdout_bytes, session.output(1).stdout) == (300_000, whole.stdout)
    assert short.stdout_path is not None
    Path(short.stdout_path).unlink()
    with pytest.raises(StoreError, match="cannot be read"):
        session.output(1)
    assert session.output(1, whole=False).stdout == short.stdout
    (none,) = session.results(campaign=campaign, outputs=False)
    assert (none.stdout, none.stdout_bytes) == (b"", 300_000)


def test_scheduler_that_nobody_knows_is_refused_with_those_there_are(session: Session) -> None:
    with pytest.raises(SubmitRejected, match=r"pilot 1: nosuch://localhost/ is not a known scheduler: .* slurm"):
        session.pilots.submit(scheduler="nosuch")
    assert [(pilot.state, pilot.trouble) for pilot in session.pilots.list(ended=True)] == [(PilotState.FAILED, "")]


def test_ranks_that_slurms_pmix_cannot_start_are_told_another_way(session: Session, tmp_path: Path) -> None:
    said = "srun: error:  mpi/pmix_v4: init: (null) [0]: mpi_pmix.c:197: pmixp_init: can not load PMIx library"
    for name, line in (("srun", f'case "$*" in *--mpi=list*) echo pmix;; *) echo "{said}" >&2; exit 1;; esac'),
                       ("scontrol", "echo MpiDefault = none")):  # fmt: skip
        (tmp_path / name).write_text(f"#!/bin/sh\n{line}\n")
        (tmp_path / name).chmod(0o755)
    session.pilots.submit(cores=2)
    env = {"PILOTMTC_LAUNCHER": "srun", "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    campaign = session.submit("true", ranks=2, env=env)
    session.wait(campaign, timeout_s=30)
    assert any("PILOTMTC_LAUNCHER=ranks" in line for line in session.explain(1)[1])


def test_pilot_says_what_its_node_has(session: Session) -> None:
    pilot = session.pilots.submit(cores=1)
    assert pilot.node_cores == 1
    assert pilot.node_memory_bytes == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    session.submit("echo hi", memory="999G")
    assert any("of memory a node, and the task needs" in line for line in session.explain(1)[1])


def test_pilots_come_and_go(session: Session) -> None:
    one = session.pilots.submit(cores=1, memory="2G", resources={"licence": 2}, walltime="1h", pin=False)
    two = session.pilots.submit(cores=1)
    assert [pilot.id for pilot in session.pilots] == [two.id, one.id]
    assert (one.description.memory_bytes, one.description.named, one.description.walltime_s) == (
        2 << 30, {"licence": 2.0}, 3600.0,
    )  # fmt: skip
    session.pilots.drain(two.id)
    assert session.pilots.wait(two.id, 20).state is PilotState.DONE
    session.pilots.cancel(one.id)
    assert session.pilots.wait(one.id, 20).state is PilotState.CANCELED
    assert session.pilots.list() == ()
    assert len(session.pilots.list(ended=True)) == 2


def test_store_itself(session: Session, tmp_path: Path) -> None:
    session.submit("true")
    info = session.info()
    assert (info.path, info.tasks) == (str(tmp_path / "store.db"), {TaskState.READY: 1})
    assert session.check() == ()
    assert session.compact().after > 0
    copy = session.snapshot(tmp_path / "copy.db")
    with Session(copy) as other:
        assert other.info().tasks == {TaskState.READY: 1}


def test_threads_share_a_session(session: Session) -> None:
    found: list[int] = []

    def work(number: int) -> None:
        campaign = session.submit("true", range(50), name=f"t{number}")
        found.append(session.campaign(campaign).received)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert found == [50] * 8
    assert sorted(campaign.name for campaign in session.campaigns()) == [f"t{number}" for number in range(8)]


def test_session_on_a_store_in_this_process(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "store.db")
    with Session(store) as session:
        campaign = session.submit("true", range(3))
        assert [task.id for task in session.tasks(campaign=campaign)] == [1, 2, 3]
        assert session.cancel(campaign=campaign).changed == 3
        assert [step.complete for step in session.follow(campaign)][-1]
    assert store.call is not None  # the session leaves it open
    store.close()


def test_session_outlives_the_server(session: Session) -> None:
    campaign = session.submit("true", range(10))
    pid = session.info().pid
    os.kill(pid, 9)
    assert len(list(session.tasks(campaign=campaign))) == 10
    wait_until(lambda: session.info().pid != pid)
