"""Campaign files and the messages that submit tasks."""

import re
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotmtc.campaign.file import OWN, SHARED, CampaignFile, load, loads
from pilotmtc.campaign.order import may_meet
from pilotmtc.campaign.submit import CHUNK_CHARS, VALUE_BYTES, Packer, TaskSpec, chunks
from pilotmtc.errors import ConfigError, PilotMTCError, UsageError
from pilotmtc.model import After, Resources
from pilotmtc.parameters import axis
from pilotmtc.protocol.client.campaigns import Submit
from pilotmtc.template import expand, make_template

ECHO = make_template("echo {}", ["1"])
ONE = Resources()


def echoes(count: int) -> Iterator[TaskSpec]:
    return (TaskSpec(ECHO, ONE, (str(number),)) for number in range(count))


# -- chunks


def test_chunks_follow_each_other_and_the_last_one_seals() -> None:
    found = list(chunks(echoes(10), key="k", name="n", size=4))
    assert [(chunk.offset, len(chunk.rows), chunk.last) for chunk in found] == [
        (0, 4, False),
        (4, 4, False),
        (8, 2, True),
    ]
    assert {(chunk.key, chunk.name) for chunk in found} == {("k", "n")}
    assert [row.params for chunk in found for row in chunk.rows] == [(str(number),) for number in range(10)]


def test_no_tasks_make_one_sealing_chunk() -> None:
    assert list(chunks([], key="k")) == [Submit(key="k", last=True)]


def test_templates_and_resources_stand_once_a_chunk() -> None:
    other, wide = make_template("true"), Resources(cores=2)
    tasks = [
        TaskSpec(ECHO, ONE, ("a",)),
        TaskSpec(other, wide),
        TaskSpec(ECHO, wide, ("b",), 3, "n", ("t",), (After("n"),)),
    ]
    (chunk,) = chunks(tasks, key="k")
    assert chunk.templates == (ECHO, other)
    assert chunk.resources == (ONE, wide)
    assert [(row.template, row.resources) for row in chunk.rows] == [(0, 0), (1, 1), (0, 1)]
    row = chunk.rows[2]
    assert (row.priority, row.name, row.tags, row.after) == (3, "n", ("t",), (After("n"),))


def test_tasks_are_taken_no_further_than_the_chunk() -> None:
    tasks = echoes(100)
    stream = chunks(tasks, key="k", size=10)
    next(stream)
    assert next(tasks).params == ("10",)


def test_what_has_come_may_be_taken_at_any_time() -> None:
    packer = Packer(key="k", size=3)
    assert [packer.add(task) for task in echoes(2)] == [False, False]
    first = packer.take()
    assert [packer.add(task) for task in echoes(3)] == [False, False, True]
    second, last = packer.take(), packer.take(last=True)
    assert [(chunk.offset, len(chunk.rows), chunk.last) for chunk in (first, second, last)] == [
        (0, 2, False), (2, 3, False), (5, 0, True),
    ]  # fmt: skip


def test_chunks_of_long_values_stay_below_the_cap() -> None:
    tasks = (TaskSpec(ECHO, ONE, ("x" * 100_000,)) for _ in range(100))
    sizes = [len(msgspec.msgpack.encode(chunk)) for chunk in chunks(tasks, key="k")]
    assert max(sizes) < CHUNK_CHARS + 2 * VALUE_BYTES


@pytest.mark.parametrize(
    ("task", "words"),
    [
        (TaskSpec(ECHO), r"task 2 brings 0 values for the 1 parameters \(1\)"),
        (TaskSpec(ECHO, ONE, ("a\0",)), "parameter 1 of task 2 holds a NUL"),
        (TaskSpec(ECHO, ONE, ("\udc80",)), "parameter 1 of task 2 is not UTF-8"),
        (TaskSpec(ECHO, ONE, ("ä" * 70_000,)), "parameter 1 of task 2 .* is 140000 bytes long"),
        (TaskSpec(ECHO, ONE, ("a",), 2**31), "task 2 has priority 2147483648"),
        (TaskSpec(ECHO, ONE, ("a",), 0, ""), "task 2 has an empty name"),
        (TaskSpec(ECHO, ONE, ("a",), 0, "a\0"), "name of task 2 holds a NUL"),
        (TaskSpec(ECHO, ONE, ("a",), 0, None, ("",)), "task 2 has an empty tag"),
    ],
)
def test_wrong_task_is_named_by_its_number(task: TaskSpec, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        list(chunks([TaskSpec(ECHO, ONE, ("a",)), task], key="k"))


# -- files

FILE = """
name = "study"

[defaults]
cores = 2
time_limit = "5m"
env = { A = 1, B = "b" }
resources = { licence = 1 }

[[task]]
name = "fit-{seed}"
command = "fit {seed} {mass}"
after = "sim-{seed}"
tags = ["mass={mass}"]
stdout = "out/{seed}.txt"
[task.grid]
seed = "0..1"
mass = [1.50, 2, true]

[[task]]
name = "sim-{s}"
command = ["sim", "--seed", "{s}"]
cwd = "work"
cores = 1
gpus = 0.5
memory = "2G"
expected = 60
priority = 5
retries = 2
backoff = "10s"
grace = "1m"
signal_first = "sigusr1"
max_output = "1K"
grid = { s = "0..1" }
env = { A = "2" }
resources = { licence = 0, disk = 2.5 }

[[task]]
name = "end"
command = "cat"
after_any = ["fit-1", "sim-0"]
"""


def read(text: str) -> CampaignFile:
    return loads(text, place="c.toml", base=Path("/base"))


def test_campaign_file_makes_tasks_in_order_of_their_needs() -> None:
    campaign = read(FILE)
    tasks = list(campaign.tasks())
    assert (campaign.name, campaign.size) == ("study", 9)
    assert [task.name for task in tasks] == ["sim-0", "sim-1"] + ["fit-0"] * 3 + ["fit-1"] * 3 + ["end"]
    assert [task.params for task in tasks[2:5]] == [("0", "1.50"), ("0", "2"), ("0", "true")]
    assert tasks[5].after == (After("sim-1"),)
    assert tasks[5].tags == ("mass=1.50",)
    assert tasks[8].after == (After("fit-1", well=False), After("sim-0", well=False))


def test_tasks_own_words_go_over_the_defaults() -> None:
    tasks = list(read(FILE).tasks())
    assert tasks[0].resources == Resources(
        1, 0.5, 2 << 30, {"licence": 0, "disk": 2.5}, 300, 60, grace_s=60, signal_first="USR1"
    )
    assert tasks[2].resources == Resources(2, named={"licence": 1}, time_limit_s=300)
    assert tasks[0].template.env == {"A": "2", "B": "b"}
    assert (tasks[0].priority, tasks[0].template.max_retries, tasks[0].template.backoff_s) == (5, 2, 10)
    assert tasks[0].template.max_output_bytes == 1024
    assert tasks[0].template is tasks[1].template
    assert tasks[2].resources is tasks[8].resources


def test_paths_start_at_the_files_directory() -> None:
    tasks = list(read(FILE).tasks())
    assert tasks[0].template.cwd == "/base/work"
    found = expand(tasks[5].template, tasks[5].params, task=1, attempt=1, campaign=1)
    assert (found.cwd, found.stdout) == ("/base", "/base/out/1.txt")


def test_braces_in_the_files_directory_are_no_placeholders() -> None:
    (task,) = loads('[[task]]\ncommand = "x {a}"\ngrid = { a = 1 }', base=Path("/b/{a}")).tasks()
    assert expand(task.template, task.params, task=1, attempt=1, campaign=1).cwd == "/b/{a}"


DEEP = "a." * 5000


@pytest.mark.parametrize("key", [f"env.{DEEP}b = 1", "params = " + "[" * 5000, f"command.{DEEP}b = 1"])
def test_deep_nesting_is_an_error_like_others(key: str) -> None:
    with pytest.raises(UsageError, match=r"recursion|is no command|is not one value") as caught:
        loads(f"[[task]]\ncommand = 'true'\n{key}\n" if key.startswith(("env", "params")) else f"[[task]]\n{key}\n")
    assert len(str(caught.value)) < 300


def test_file_names_campaign_and_finds_parameters_beside_it(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("mass,seed\n1,2\n3,4\n")
    (tmp_path / "my.toml").write_text(
        '[[task]]\ncommand = "x {mass} {seed} {k}"\nfrom = "p.csv"\ngrid = { k = "a,b" }\n'
    )
    campaign = load(tmp_path / "my.toml")
    assert (campaign.name, campaign.size) == ("my", 4)
    assert [task.params for task in campaign.tasks()] == [
        ("1", "2", "a"),
        ("1", "2", "b"),
        ("3", "4", "a"),
        ("3", "4", "b"),
    ]
    assert [task.template.cwd for task in campaign.tasks()] == [str(tmp_path)] * 4


def test_file_may_begin_with_the_mark_that_windows_editors_write(tmp_path: Path) -> None:
    text = '\ufeffname = "größe"\n[[task]]\ncommand = "true"\n'
    (tmp_path / "my.toml").write_bytes(text.encode())
    campaign = load(tmp_path / "my.toml")
    assert (campaign.name, campaign.size) == ("größe", 1)


def test_rows_of_parameters_go_together() -> None:
    campaign = read('[[task]]\ncommand = "x {a} {b}"\nparams = [{ a = 1, b = "x" }, { b = "y", a = 2.0 }]')
    assert [task.params for task in campaign.tasks()] == [("1", "x"), ("2.0", "y")]


def test_setup_of_a_task_replaces_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OF_HERE", "{x}")
    found = read(
        """
        [defaults]
        setup = ["source venv/bin/activate"]
        [[task]]
        command = "a"
        [[task]]
        command = "b"
        setup = ["module load x", "A=1"]
        shell = "bash -l"
        capture_env = true
        env = { B = 2 }
        """
    )
    one, other = [task.template for task in found.tasks()]
    assert (one.setup, one.shell_program, one.env) == (("source venv/bin/activate",), "bash", {})
    assert (other.setup, other.shell_program) == (("module load x", "A=1"), "bash -l")
    assert (other.env["B"], other.env["OF_HERE"]) == ("2", "{{x}}")


def test_rows_are_numbered_where_that_is_asked_for() -> None:
    found = read(
        """
        [[task]]
        name = "fit-{#:03d}"
        command = ["fit", "{}"]
        grid = { mass = [3, 4] }
        [[task]]
        name = "plot"
        command = "plot {m:.1f}"
        params = [{ m = 1 }, { m = 2.5 }]
        after = "fit-{#:03d}"
        [[task]]
        command = "echo {#}"
        """
    )
    tasks = list(found.tasks())
    assert [task.name for task in tasks] == ["fit-001", "fit-002", "plot", "plot", None]
    assert [task.params for task in tasks] == [("3", "1"), ("4", "2"), ("1", "1"), ("2.5", "2"), ("1",)]
    assert [task.after[0].task for task in tasks[2:4]] == ["fit-001", "fit-002"]
    assert expand(tasks[1].template, tasks[1].params, task=1, attempt=1, campaign=1).argv == ["fit", "4"]


def test_several_tables_may_share_a_name() -> None:
    campaign = read('[[task]]\ncommand="c"\nafter="a"\n' + '[[task]]\ncommand="x"\nname="a"\n' * 2)
    assert [task.name for task in campaign.tasks()] == ["a", "a", None]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", r"c\.toml: there are no tasks"),
        ("x=", r"c\.toml: not TOML: Invalid value"),
        ("a = 1\na = 2\n[b]", r"c\.toml: not TOML: .*line 2"),
        ("[task]\ncommand='x'", r"c\.toml:1: task must be an array.*\[\[task\]\]"),
        ("task = 3", r"c\.toml:1: task must be an array"),
        ("defaults = 3", r"c\.toml:1: defaults must be a table"),
        ("name = 3\n[[task]]\ncommand='x'", r"c\.toml:1: name: 3 is not a text"),
        ("cores = 1\n[[task]]\ncommand='x'", r"c\.toml:1: unknown key 'cores': it belongs to a \[\[task\]\] or to"),
        ("[defaults]\n\nname = 'c'", r"c\.toml:3: \[defaults\]: unknown key 'name': it belongs to a \[\[task\]\]"),
        ("[[task]]\ncomand = 'x'", r"c\.toml:2: \[\[task\]\] number 1: unknown key 'comand': did you mean 'command'"),
        ("[[task]]\nname = 'a'", r"c\.toml:1: \[\[task\]\] 'a': there is no command"),
        ("[[task]]\ncommand = 3", r"c\.toml:2: .*3 is no command"),
        ("[[task]]\ncommand = ''", r"c\.toml:2: .*the command is empty"),
        (
            "[[task]]\ncommand='x'\n[[task]]\n\ncommand = 'x {a}'",
            r"c\.toml:5: \[\[task\]\] number 2: \{a\} in the command",
        ),
        ("[[task]]\ncommand='''\n[[task]]\n'''\nstdout='{q}'", r"c\.toml:5: .*\{q\} in the stdout"),
        ("[[task]]\ncommand='x'\nenv = { A = '{q}' }", r"\{q\} in the variable A"),
        ("[[task]]\ncommand='x'\n[task.env]\nA = [1]", r"c\.toml:3: .*env: A: \[1\] is not one value"),
        ("[[task]]\ncommand='x'\ncores = 'two'", r"c\.toml:3: .*cores: 'two' is not a whole number"),
        ("[[task]]\ncommand='x'\ncores = true", "cores: True is not a whole number"),
        ("[[task]]\ncommand='x'\ncores = 0", "cores: 0 is too few"),
        ("[[task]]\ncommand='x'\ncores = 99999999999", "cores: 99999999999 is too large"),
        ("[[task]]\ncommand='x'\nretries = -1", "retries: -1 is negative"),
        ("[[task]]\ncommand='x'\ngpus = 1.5", r"gpus: 1\.5 GPUs cannot be"),
        ("[[task]]\ncommand='x'\ngpus = nan", "gpus: nan is not an amount"),
        ("[[task]]\ncommand='x'\nmemory = '2X'", "memory: '2X' is not an amount of memory"),
        (f"[[task]]\ncommand='x'\nmemory = '{'9' * 400}T'", "memory: .* is not an amount of memory"),
        ("[[task]]\ncommand='x'\ntime_limit = '5x'", "time_limit: '5x' is not a duration"),
        ("[[task]]\ncommand='x'\ngrace = '5x'", "grace: '5x' is not a duration"),
        ("[[task]]\ncommand='x'\nsignal_first = 'KILL'", "signal_first: 'KILL' is not a signal that a task can catch"),
        ("[[task]]\ncommand='x'\nsignal_first = 10", "signal_first: 10 is not a signal that a task can catch"),
        ("[[task]]\ncommand='x'\ntime_limit = [5]", r"time_limit: \[5\] is not a duration"),
        ("[[task]]\ncommand='x'\nresources = 3", "resources: 3 is not a table"),
        ("[[task]]\ncommand='x'\nresources = { a = -1 }", "resources: a: -1 is not an amount"),
        ("[[task]]\ncommand='x'\ntags = [3]", "tags: 3 is not a text"),
        ("[[task]]\ncommand='x'\ngrid = { a = '1:2:0' }", r"c\.toml:3: .*step 0"),
        ("[[task]]\ncommand='x'\ngrid = { a = [] }", "grid: a: the array is empty"),
        ("[[task]]\ncommand='x'\nparams = [{a = 1}, {b = 1}]", "params: row 2 and the first differ in 'a'"),
        ("[[task]]\ncommand='x'\nparams = [{a = 1}]\ngrid = {a = 1}", "two sources have a parameter called 'a'"),
        ("[[task]]\ncommand='x'\nfrom = 'p.xls'", r"c\.toml:3: .*format of /base/p\.xls is not known"),
        ("[[task]]\ncommand='x'\nname = 't{task_id}'", r"\{task_id\} in the name is not known"),
        (
            "[[task]]\ncommand='x'\nname='member'\n[[task]]\ncommand='x'\nafter = 'membr'",
            r"c\.toml:6: .*did you mean 'member'",
        ),
        ("[[task]]\ncommand='x'\nname='a'\nafter='a'", r"c\.toml:4: \[\[task\]\] 'a': waits for itself: 'a' after 'a'"),
        (
            "".join(f"[[task]]\ncommand='x'\nname='{a}'\nafter='{b}'\n" for a, b in ("ab", "bc", "ca")),
            r"c\.toml:4: \[\[task\]\] 'a': waits for itself: 'a' after 'b' after 'c' after 'a'",
        ),
    ],
)
def test_wrong_campaign_is_named_with_its_place(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        read(text)
    assert str(caught.value).startswith("c.toml")


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.toml cannot be read: No such file"):
        load(tmp_path / "none.toml")
    with pytest.raises(ConfigError, match=r"c\.toml:3: .*/base/p\.csv cannot be read: No such file"):
        read("[[task]]\ncommand='x'\nfrom = 'p.csv'")
    (tmp_path / "latin.toml").write_bytes(b"name = '\xe4'")
    with pytest.raises(UsageError, match=r"latin\.toml: byte 9 is not UTF-8"):
        load(tmp_path / "latin.toml")


def test_deep_nesting_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="not TOML"):
        read("a = " + "[" * 100_000)


KEYS = [
    "name",
    "command",
    "cores",
    "gpus",
    "memory",
    "env",
    "grid",
    "params",
    "from",
    "after",
    "tags",
    "cwd",
    "expected",
    "q",
]
SCALARS = st.sampled_from(
    [
        "1",
        "-1",
        "0.5",
        "true",
        "'x'",
        "'{a}'",
        "'1:3'",
        "nan",
        "[]",
        "['x']",
        "{a=1}",
        "[{a=1}]",
        "1979-05-27",
        "9" * 30,
    ]
)


@given(
    st.lists(st.tuples(st.booleans(), st.dictionaries(st.sampled_from(KEYS), SCALARS)), max_size=4)
    | st.text(max_size=40)
)
def test_any_file_makes_tasks_or_a_named_error(content: str | list[tuple[bool, dict[str, str]]]) -> None:
    if not isinstance(content, str):
        tables = [("[[task]]\n" if task else "[defaults]\n", keys) for task, keys in content]
        content = "".join(head + "".join(f"{key} = {value}\n" for key, value in keys.items()) for head, keys in tables)
    try:
        tasks = list(read(content).tasks())
        for chunk in chunks(tasks, key="k"):
            msgspec.msgpack.encode(chunk)
    except PilotMTCError as error:
        message = str(error)
    else:
        message = "c.toml"
    assert message.startswith(("c.toml", "task "))


@given(st.lists(st.sampled_from(["a", "b", None]), max_size=5), st.lists(st.sampled_from(["a", "b", None]), max_size=5))
def test_patterns_meet_when_a_text_fits_both(one: list[str | None], other: list[str | None]) -> None:
    from fnmatch import fnmatchcase
    from itertools import product

    texts = ["".join(text) for size in range(7) for text in product("ab", repeat=size)]
    left, right = ("".join(piece or "*" for piece in pattern) for pattern in (one, other))
    both = any(fnmatchcase(text, left) and fnmatchcase(text, right) for text in texts)
    assert may_meet(tuple(one), tuple(other)) == both or (not both and len(one) + len(other) > 6)


# -- the reference


DOCS = Path(__file__).parents[2] / "docs" / "tasks.md"


def test_every_key_is_documented() -> None:
    rows = [line for line in DOCS.read_text().splitlines() if line.startswith("| `")]
    documented = {key for row in rows for key in re.findall(r"`(\w+)`", row.split("|")[1])}
    assert set(SHARED) | set(OWN) <= documented


def test_documented_campaign_is_right() -> None:
    text = DOCS.read_text().split("## Campaign files")[1].split("```toml\n")[1].split("```")[0]
    assert loads(text).size == 1 + 19 * 10 + 19


def test_documented_axes_have_the_documented_values() -> None:
    for word, values in re.findall(r"^\| `(\w+=[^`]+)` \| ([^|:]+)", DOCS.read_text(), re.MULTILINE):
        found = [row[0] for row in axis(word)]
        first, _, last = values.strip().partition(" ... ")
        if first != "parts of any kind":
            assert ", ".join(found).startswith(first)
            assert found[-1] == (last or first.split(", ")[-1])


@pytest.mark.parametrize("name", ["sim-{n}", "sim-1"])
def test_wildcards_are_not_taken_for_names(name: str) -> None:
    text = f'[[task]]\ncommand="c {{n}}"\nname="{name}"\ngrid={{n="1..2"}}\n[[task]]\ncommand="d"\nafter="sim-*"\n'
    with pytest.raises(
        UsageError, match=r"campaign:\d: .* after: no task is called 'sim-\*', and there are no wildcards"
    ):
        loads(text)
    found = loads('[[task]]\ncommand="c"\nname="what?"\n[[task]]\ncommand="d"\nafter="what?"\n')
    assert len(list(found.tasks())) == 2
