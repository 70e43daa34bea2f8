"""What attempts ran: versions, edits of commands, and what has changed since."""

from pathlib import Path
from uuid import uuid4

import pytest
from msgspec.structs import replace
from sqlite_utils import Database

from pilotmtc.errors import UsageError
from pilotmtc.model import CampaignId, Program, Resources, TaskId, Template
from pilotmtc.protocol.agent import Finish
from pilotmtc.protocol.base import Changed
from pilotmtc.protocol.client.campaigns import GetCampaigns, Submit
from pilotmtc.protocol.client.maintenance import CheckStore
from pilotmtc.protocol.client.programs import GetProgram, LookAtProgram, SetProgram
from pilotmtc.protocol.client.tasks import Edit, GetTask, GetTasks, Retry, TaskDetail
from pilotmtc.protocol.records import Filter
from pilotmtc.states import Cause, TaskState
from pilotmtc.store.file.opening import SCHEMA
from pilotmtc.store.sqlite import SqliteStore

from .storekit import ECHO, Kit, result, row

C1 = CampaignId(1)
SIM = Template(("/code/sim", "{x}"), fields=("x",))
PLOT = Template(("/code/plot", "{x}"), fields=("x",))
OLD = Program("/code", "host", "ann", "1.0", "c0ffee", False, {"/code/sim": "aa", "/code/plot": "bb"})


def submit(kit: Kit, *x: object, template: Template = SIM, program: Program | None = OLD) -> CampaignId:
    rows = tuple(row(value) for value in x)
    message = Submit(uuid4().hex, 0, "c", (template,), (Resources(),), rows, last=True, program=program)
    return kit.store.call(message).campaign


def edit(kit: Kit, *ids: int, **new: object) -> Changed:
    return kit.store.call(Edit(uuid4().hex, Filter(ids=tuple(map(TaskId, ids))), **new))  # type: ignore[arg-type]


def rerun_changed(kit: Kit, campaign: int = 1) -> Changed:
    wanted = Filter(campaign=CampaignId(campaign), states=(TaskState.DONE, TaskState.FAILED))
    return kit.store.call(Retry(uuid4().hex, wanted, done=True, dependents=True, changed=True))


def run_all(kit: Kit, code: int = 0) -> None:
    pilot = kit.pilot()
    kit.finish(pilot, *kit.claim(pilot), code=code)


def detail(kit: Kit, task: int) -> TaskDetail:
    return kit.store.call(GetTask(TaskId(task)))


def test_attempt_keeps_what_it_ran(kit: Kit) -> None:
    submit(kit, 1)
    run_all(kit)
    kit.store.call(SetProgram(C1, replace(OLD, revision="beef", dirty=True)))
    kit.store.call(Retry(uuid4().hex, Filter(campaign=C1), done=True))
    run_all(kit)
    found = detail(kit, 1)
    assert [one.revision for one in found.attempts] == ["c0ffee", "beef+"]
    first, second = (found.versions[one.version] for one in found.attempts)
    assert (first.template, first.program, second.program) == (SIM, OLD, replace(OLD, revision="beef", dirty=True))
    (task,) = kit.store.call(GetTasks()).tasks
    assert task.last is not None
    assert task.last.version == second.id
    assert kit.store.call(CheckStore()).problems == ()


def test_same_command_and_programs_are_one_version_in_all_campaigns(kit: Kit) -> None:
    submit(kit, 1, 2)
    submit(kit, 3)
    submit(kit, 4, program=None)
    run_all(kit)
    one, two, three, other = (detail(kit, task).attempts[0].version for task in (1, 2, 3, 4))
    assert one == two == three != other > 0
    assert detail(kit, 4).versions[other].program is None


def test_attempt_whose_pilot_was_lost_has_its_version(kit: Kit) -> None:
    submit(kit, 1)
    pilot = kit.pilot()
    (task,) = kit.claim(pilot)
    kit.store.call(SetProgram(C1, replace(OLD, revision="beef")))
    kit.store.call(Finish(pilot, (result(task, cause=Cause.NODE_LOST),)))
    assert detail(kit, 1).attempts[0].revision == "c0ffee"


def test_edit_changes_what_has_not_run_and_leaves_results_alone(kit: Kit) -> None:
    submit(kit, 1, 2, 3)
    pilot = kit.pilot()
    one, two = kit.claim(pilot, 2)
    kit.finish(pilot, one)
    kit.finish(pilot, two, code=1)
    assert edit(kit, 1, 2, 3, command=("/code/sim", "--fast", "{x}"), env={"A": "1"}) == Changed(2, 1)
    found = [detail(kit, task) for task in (1, 2, 3)]
    commands = [one.template.command[1] for one in found if one.template]
    assert commands == ["{x}", "--fast", "--fast"]
    assert [one.template.env for one in found if one.template] == [{}, {"A": "1"}, {"A": "1"}]
    assert [one.versions[one.attempts[0].version].template.command for one in found[:2]] == [SIM.command] * 2
    kit.retry(2)
    run_all(kit)
    last = detail(kit, 2)
    assert last.versions[last.attempts[-1].version].template.command == ("/code/sim", "--fast", "{x}")
    assert kit.store.call(CheckStore()).problems == ()


@pytest.mark.parametrize(
    ("new", "words"),
    [
        ({"command": ("/code/sim", "{y}")}, r"\{y\} in the command is no parameter \(there is only \{x\}\)"),
        ({"command": ("/code/sim",)}, r"have values for \{x\}, and '/code/sim' does not mention it: write \{x\}"),
        ({"env": {"A": "{z}"}}, r"\{z\} in the variable"),
        ({"retry_memory": 2.0, "max_retries": 1}, "memory cannot grow x2: say how much"),
        ({"retry_time": 1.5}, "no retries"),
        ({"max_retries": -1}, "max_retries is -1"),
    ],
)
def test_edit_that_cannot_be_changes_nothing(kit: Kit, new: dict[str, object], words: str) -> None:
    submit(kit, 1, 2)
    with pytest.raises(UsageError, match=words):
        edit(kit, 1, 2, **new)
    assert detail(kit, 1).template == SIM


def test_edit_that_cannot_be_is_refused_also_if_no_task_is_left_to_change(kit: Kit) -> None:
    submit(kit, 1)
    run_all(kit)
    with pytest.raises(UsageError, match=r"\{y\} in the command is no parameter"):
        edit(kit, 1, command=("/code/sim", "{y}"))
    assert edit(kit, 1, command=("/code/sim", "{x}")) == Changed(0, 1)


def test_edit_of_retries_and_limits(kit: Kit) -> None:
    submit(kit, 1)
    edit(kit, 1, max_retries=3, backoff_s=2.0, retry_on=("oom",), memory_bytes=1 << 30, retry_memory=2.0, grace_s=9.0)
    edit(kit, 1, max_memory_bytes=1 << 33, signal_first="USR1", max_output_bytes=100, priority=4)
    found = detail(kit, 1)
    assert found.template == replace(
        SIM, max_retries=3, backoff_s=2.0, retry_on=("oom",), retry_memory=2.0, max_memory_bytes=1 << 33,
        max_output_bytes=100,
    )  # fmt: skip
    assert found.task is not None
    assert (found.task.resources.grace_s, found.task.resources.signal_first, found.task.priority) == (9.0, "USR1", 4)


def test_wrong_edit_of_many_tasks_changes_none_of_them(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pilotmtc.store.requests.steer.steer.SLICE", 2)
    submit(kit, 1, 2, 3, 4, 5)
    submit(kit, 6, template=Template(("/code/sim", "{y}"), fields=("y",)))
    with pytest.raises(UsageError, match=r"\{x\} in the command"):
        kit.store.call(Edit(uuid4().hex, Filter(), command=("other", "{x}")))
    assert all(task.command[0] == "/code/sim" for task in kit.store.call(GetTasks()).tasks)


def test_changed_program_runs_again_what_ran_another_and_what_depends_on_it(kit: Kit) -> None:
    campaign = submit(kit, 1, 2)
    rows = (row(1), row(2, after=()))
    message = Submit(uuid4().hex, 0, "c", (PLOT,), (Resources(),), rows, last=True, program=OLD)
    plots = kit.store.call(message).campaign
    run_all(kit)
    assert rerun_changed(kit, campaign) == Changed(0)
    now = replace(OLD, files=OLD.files | {"/code/sim": "cc"}, revision="beef")
    for one in (campaign, plots):
        kit.store.call(SetProgram(one, now))
    assert rerun_changed(kit, plots) == Changed(0)  # another commit, but the same plot
    assert rerun_changed(kit, campaign) == Changed(2)
    run_all(kit)
    assert rerun_changed(kit, campaign) == Changed(0)


def test_what_was_named_is_watched_instead_of_the_command(kit: Kit) -> None:
    submit(kit, 1, template=replace(SIM, watch=("/lib/model.py",)), program=replace(OLD, files={"/lib/model.py": "1"}))
    run_all(kit)
    kit.store.call(SetProgram(C1, replace(OLD, files={"/code/sim": "other"})))
    assert rerun_changed(kit) == Changed(0)
    kit.store.call(SetProgram(C1, replace(OLD, files={"/lib/model.py": "2"})))
    assert rerun_changed(kit) == Changed(1)


def test_files_are_looked_at_where_the_store_is(kit: Kit, tmp_path: Path) -> None:
    script, data, lost = tmp_path / "a.py", tmp_path / "data", tmp_path / "lost"
    script.write_text("x")
    data.write_text("x")
    found = kit.store.call(LookAtProgram("", (str(data), str(lost), str(tmp_path)), (str(script), str(data / "none"))))
    digests = found.program.files
    assert digests[str(script)] == digests[str(data)] != ""
    assert (digests[str(lost)], list(found.unreadable)) == ("", [str(lost), str(tmp_path)])
    assert kit.store.call(LookAtProgram("", (), (str(data),))).program.files == {}  # not a program


def test_program_of_a_campaign_is_known(kit: Kit) -> None:
    submit(kit, 1)
    found = kit.store.call(GetProgram(C1))
    assert (found.program, found.template) == (OLD, SIM)
    with pytest.raises(UsageError, match="no campaign 7"):
        kit.store.call(GetProgram(CampaignId(7)))


def test_what_grew_with_retries_is_told_apart_from_what_was_asked_for(kit: Kit) -> None:
    grows = replace(ECHO, max_retries=3, retry_memory=2.0)
    kit.submit(row(1), template=grows, resources=(Resources(memory_bytes=100),))
    pilot = kit.pilot()
    for _ in range(2):
        kit.finish(pilot, *kit.claim(pilot), code=1, cause=Cause.OOM)
    found = detail(kit, 1)
    assert found.task is not None
    assert (found.task.resources.memory_bytes, found.task.before_growth) == (400, Resources(memory_bytes=100))
    edit(kit, 1, memory_bytes=50)
    (task,) = kit.store.call(GetTasks()).tasks
    assert (task.resources, task.before_growth) == (Resources(memory_bytes=50), None)


def test_store_of_schema_8_is_migrated(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    store = SqliteStore(path)
    kit = Kit(store)
    kit.submit(row(1), row(2))
    pilot = kit.pilot()
    kit.finish(pilot, *kit.claim(pilot, 1))
    store.close()
    database = Database(path)
    for view in database.view_names():
        database[view].drop()
    for table in ("program", "version", "memo", "grown", "seen", "campaign_after", "growth"):
        database[table].drop()
    for table, column in (("campaign", "program_id"), ("campaign", "known"), ("task", "version_id"),
                          ("attempt", "version_id"), ("campaign", "start_rate"), ("campaign", "next_start_at"),
                          ("pilot", "on_hold")):  # fmt: skip
        database.execute(f"ALTER TABLE {table} DROP COLUMN {column}")
    database.execute("DELETE FROM _sqlite_migrations WHERE name LIKE 'm009%'")
    database.execute("PRAGMA user_version = 8")
    database.conn.commit()
    database.conn.close()
    store = SqliteStore(path)
    kit = Kit(store)
    assert store._connection.execute("PRAGMA user_version").fetchone() == (SCHEMA,)
    assert [one.version for one in detail(kit, 1).attempts] == [0]
    assert store.call(GetCampaigns()).campaigns[0].known == 0
    pilot = kit.pilot()
    kit.finish(pilot, *kit.claim(pilot))
    assert detail(kit, 2).attempts[0].version > 0
    assert rerun_changed(kit) == Changed(0)
    assert store.call(CheckStore()).problems == ()
    store.close()
