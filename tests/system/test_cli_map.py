"""``pilotmtc map``: a Python function for rows of values, through a real pilot."""

import json
import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support import wait_until
from tests.user import TIMEOUT_S, User

WORK = '''
import os
import time

class Point:
    def __init__(self, x):
        self.x = x
    def __repr__(self):
        return f"Point({self.x!r})"

def simulate(mass, seed=0, label: str = ""):
    """Return something that JSON can say."""
    print("simulating", mass)
    return {"energy": mass * 2, "seed": seed, "label": label}

def point(x):
    return Point(x)

def root(x):
    if x < 0:
        raise ValueError(f"{x} is negative")
    return x ** 0.5

def die(x):
    os._exit(3)

def wait_for(name):
    open(f"begun-{name}", "w").close()
    while not os.path.exists(name):
        time.sleep(0.01)
    return name
'''


@pytest.fixture(autouse=True)
def work(user: User) -> None:
    user.file("work.py", WORK)


def by_params(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(records, key=lambda record: json.dumps(record["params"]))


def test_rows_of_a_file(user: User) -> None:
    user.file("params.csv", "mass,seed,label\n1.5,1,007\n2,2,b c\n")
    done = user.cli("map", "work:simulate", "--from", "params.csv", "--tag", "night", "--retries", "1")
    assert [set(record) for record in done.records] == [{"id", "params", "value"}] * 2
    assert [(record["params"], record["value"]) for record in by_params(done.records)] == [
        ({"mass": 1.5, "seed": 1, "label": "007"}, {"energy": 3.0, "seed": 1, "label": "007"}),
        ({"mass": 2, "seed": 2, "label": "b c"}, {"energy": 4, "seed": 2, "label": "b c"}),
    ]
    assert done.err.startswith("campaign 1: 2 done in ")
    task = user.cli("task", "1", "--json").record
    assert (task["tags"], task["max_retries"], task["cwd"]) == (["night"], 1, str(user.here))
    assert user.cli("status", "--json").record["campaigns"][0]["name"] == "work:simulate"
    assert user.cli("logs", "1").out == "simulating 1.5\n"
    assert user.cli("map", "work:simulate", "--from", "params.csv", "-q", "--as-text").err == ""


@pytest.mark.parametrize(
    ("words", "stdin", "expected"),
    [
        (["math:sqrt", ":::", "4", "9"], None, [2.0, 3.0]),
        (["math:sqrt"], b"4\n9\n", [2.0, 3.0]),
        (["math:copysign", ":::", "-1", "2", ":::", "-1.5"], None, [-1.0, -2.0]),
        (["json:dumps", "--from", "-", "--format", "jsonl"], b'{"obj": 1.50}\n', ["1.5"]),
        (["operator:neg", "--from", "numbers.txt"], None, [-1, -2]),
        (["builtins:repr", "--as-text", ":::", "1"], None, ["'1'"]),
    ],
)  # fmt: skip
def test_values_come_from_everywhere(user: User, words: list[str], stdin: bytes | None, expected: list[Any]) -> None:
    user.file("numbers.txt", "1\n2\n")
    done = user.cli("map", "-k", "-j", "1", *words, stdin=stdin)
    assert [record["value"] for record in done.records] == expected


def test_grid_in_order_with_all_cores_of_a_call(user: User) -> None:
    words = ["--grid", "mass=1:2", "--grid", "seed=0..2", "-k", "--cores", "2", "-j", "2", "--name", "wide"]
    records = user.cli("map", "work:simulate", *words).records
    assert [(one["params"]["mass"], one["params"]["seed"]) for one in records] == [
        (m, s) for m in (1, 2) for s in range(3)
    ]
    assert user.cli("task", "1", "--json").record["cores"] == 2
    assert user.cli("status", "--json").record["campaigns"][0]["name"] == "wide"


def test_values_that_json_cannot_say(user: User) -> None:
    done = user.cli("map", "work:point", "-k", "--pickle", "points.pickle", ":::", "1", "ü")
    assert [record["repr"] for record in done.records] == ["Point(1)", "Point('ü')"]
    found = subprocess.run(
        [sys.executable, "-c", "import pickle; print(pickle.load(open('points.pickle', 'rb')))"],
        cwd=user.here, env=user.env, capture_output=True, text=True, check=True, timeout=TIMEOUT_S,
    )  # fmt: skip
    ids = [record["id"] for record in done.records]
    assert found.stdout == str(
        [{"id": ids[0], "params": {"1": 1}, "value": Reprs("Point(1)")},
         {"id": ids[1], "params": {"1": "ü"}, "value": Reprs("Point('ü')")}]
    ) + "\n"  # fmt: skip


class Reprs:
    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text


def test_calls_that_fail(user: User) -> None:
    done = user.cli("map", "work:root", "-k", "--pickle", "all.pickle", ":::", "4", "-1", "x", code=1)
    assert [record.get("value", record.get("error")) for record in done.records] == [
        2.0, "ValueError: -1 is negative", "TypeError: '<' not supported between instances of 'str' and 'int'",
    ]  # fmt: skip
    ids = [record["id"] for record in done.records]
    assert f"task {ids[1]} (root(-1)) FAILED: ValueError: -1 is negative\n" in done.err
    assert '        raise ValueError(f"{x} is negative")\n' in done.err
    assert f"    more: pilotmtc logs {ids[1]}\n" in done.err
    assert "campaign 1: 1 done, 2 failed in" in done.err
    assert (
        "to make 2 failed calls again: pilotmtc map work:root --resume --keep-order --pickle all.pickle ::: 4 -1 x"
        in done.err
    )
    errors = [record.get("error") for record in pickle.loads((user.here / "all.pickle").read_bytes())]
    assert [type(error) for error in errors] == [type(None), ValueError, TypeError]


def test_how_to_go_on_names_the_site_once(user: User) -> None:
    done = user.cli("map", "work:root", "--site", "local", ":::", "-1", code=1)
    assert "to make 1 failed call again: pilotmtc --site local map work:root --resume ::: -1" in done.err


def test_worker_that_dies(user: User) -> None:
    done = user.cli("map", "work:die", ":::", "1", code=1)
    assert "its worker ended with exit code 3" in done.record["error"]
    assert "task 1 (die(1)) FAILED: its worker ended with exit code 3" in done.err


def test_known_calls_are_not_made_again(user: User) -> None:
    user.file("data.txt", "1")
    words = ("map", "work:simulate", "--memo", "--watch", "data.txt", ":::")
    user.cli(*words, "1", "2")
    done = user.cli(*words, "2", "3", "1.0")
    assert sorted(record["value"]["energy"] for record in done.records) == [2.0, 4, 6]
    assert "1 of 3 are known: their results are those of earlier tasks" in done.err
    user.file("data.txt", "2")
    assert "known" not in user.cli(*words, "2").err
    user.file("work.py", WORK.replace("import time", "import time\n# moved"))
    assert "known" in user.cli(*words, "2").err
    user.file("work.py", WORK.replace("mass * 2", "mass * 3"))
    changed = user.cli(*words, "2")
    assert (changed.records[0]["value"]["energy"], "known" in changed.err) == (6, False)
    assert "known" in user.cli(*words, "2").err


def test_file_that_is_watched_must_be_there(user: User) -> None:
    done = user.cli("map", "work:simulate", "--watch", "nowhere", ":::", "1", code=2)
    assert "nowhere, whose content is watched, cannot be read" in done.err
    assert user.cli("status", "--json").record["campaigns"] == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["work:simulat", ":::", "1"], "work has no 'simulat': did you mean 'simulate'?"),
        (["wrok:simulate", ":::", "1"], "there is no module 'wrok'"),
        (["bad:f", ":::", "1"], "    NameError: name 'retrun' is not defined"),
        (["work:simulate", "--grid", "mas=1"], "work:simulate takes no parameter 'mas': did you mean 'mass'?"),
        (["work:simulate", "--grid", "seed=1"], "work:simulate needs mass, which the rows do not have"),
        (["work:simulate"], "there are no values: give --from FILE"),
        (["work:simulate", "extra", ":::", "1"], "'extra' is neither an option nor behind ':::'"),
        (["work:simulate", "--from", "nix.csv"], "nix.csv cannot be read"),
        (["work:root", "--cores", "1000", ":::", "1"], "reduce --cores"),
        (["work:root", "--pickle", "nix/out", ":::", "1"], "nix/out cannot be written"),
        (["work:root", "--pickle", "-", ":::", "1"], "would mix with the lines of JSON"),
        (["work:root", "--ship", "nix", ":::", "1"], "ship names the module 'nix', which cannot be imported here"),
        (["work:root", "--site", "nix", ":::", "1"], "there is no site 'nix'"),
        (["work:root", "--memory", "much", ":::", "1"], "much"),
    ],
)  # fmt: skip
def test_mistakes_are_named_before_there_is_a_campaign(user: User, words: list[str], said: str) -> None:
    user.file("bad.py", "retrun\n")
    done = user.cli("map", *words, code=2)
    assert said in done.err
    assert done.out == ""
    assert not user.store.exists() or not user.cli("tasks", "--json").out


def test_empty_source(user: User) -> None:
    user.file("params.csv", "mass\n")
    assert "there are no calls" in user.cli("map", "work:simulate", "--from", "params.csv", code=2).err


def test_mistake_in_a_later_row(user: User) -> None:
    done = user.cli("map", "work:simulate", "--from", "-", "--format", "csv", stdin=b"mass,seed\n1,2\n3\n", code=2)
    assert "standard input:3: 1 values (3) for the 2 columns of the header" in done.err


def test_interrupted_and_resumed(user: User) -> None:
    words = ["map", "work:wait_for", "-j", "1", ":::", "a", "b", "c"]
    process = user.start(*words)
    wait_until(lambda: user.store.exists() and user.counts().get("RUNNING") == 1, TIMEOUT_S)
    process.send_signal(signal.SIGINT)
    wait_until(lambda: user.counts() == {"RUNNING": 1, "CANCELED": 2}, TIMEOUT_S, user.counts)
    (user.here / "a").touch()
    out, err = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 130
    assert json.loads(out) == {"id": 1, "params": {"1": "a"}, "value": "a"}
    said = err.decode()
    assert "stopping when the running tasks have finished" in said
    assert "campaign 1: interrupted after" in said
    assert "1 done, 2 to run" in said
    assert "to go on: pilotmtc map work:wait_for --resume --pilot-cores 1 ::: a b c\n" in said
    (user.here / "begun-a").unlink()
    (user.here / "b").touch()
    (user.here / "c").touch()
    done = user.cli("map", "work:wait_for", "--resume", "-k", ":::", "a", "b", "c")
    assert [(record["id"], record["value"]) for record in done.records] == [(1, "a"), (2, "b"), (3, "c")]
    assert not (user.here / "begun-a").exists(), "what has returned is not called again"
    assert user.counts() == {"DONE": 3}


@pytest.mark.parametrize(("number", "times", "code"), [(signal.SIGINT, 2, 130), (signal.SIGTERM, 1, 143)])
def test_calls_that_run_are_killed(user: User, number: signal.Signals, times: int, code: int) -> None:
    process = user.start("map", "work:wait_for", "-j", "1", ":::", "a", "b")
    wait_until(lambda: user.store.exists() and user.counts().get("RUNNING") == 1, TIMEOUT_S)
    for _ in range(times):
        process.send_signal(number)
        wait_until(lambda: user.counts().get("CANCELED"), TIMEOUT_S, user.counts)
    out, err = process.communicate(timeout=TIMEOUT_S)
    assert (process.returncode, out) == (code, b"")
    assert b"0 done, 2 to run" in err
    assert user.counts() == {"CANCELED": 2}


def test_third_interrupt_ends_it_at_once(user: User) -> None:
    process = user.start("map", "work:wait_for", "-j", "1", ":::", "a", "b")
    wait_until(lambda: user.store.exists() and user.counts().get("RUNNING") == 1, TIMEOUT_S)
    process.send_signal(signal.SIGINT)
    wait_until(lambda: user.counts() == {"RUNNING": 1, "CANCELED": 1}, TIMEOUT_S, user.counts)
    server = int(Path(f"{user.store}.lock").read_text().split()[0])
    os.kill(server, signal.SIGSTOP)  # nobody is told of the second one
    try:
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGINT)
        wait_until(lambda: b"SIG" not in _sent_again(process) and process.poll() is not None, TIMEOUT_S)
    finally:
        os.kill(server, signal.SIGCONT)
    process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 130
    (user.here / "a").touch()


def _sent_again(process: "subprocess.Popen[bytes]") -> bytes:
    """Send another Ctrl-C: two that come close together may arrive as one."""
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
    return b""


def test_reader_that_goes(user: User) -> None:
    process = user.start("map", "work:wait_for", "-j", "1", ":::", "a", "b", "c")
    assert process.stdout is not None
    process.stdout.close()
    (user.here / "a").touch()
    wait_until((user.here / "begun-b").exists, TIMEOUT_S)
    (user.here / "b").touch()
    assert process.wait(TIMEOUT_S) == 141
    assert process.stderr is not None
    assert b"to go on" in process.stderr.read()
    process.stderr.close()


def test_results_come_before_the_last_row(user: User) -> None:
    process = user.start("map", "operator:neg", "-j", "1", stdin=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(b"1\n")
    process.stdin.flush()
    assert json.loads(process.stdout.readline()) == {"id": 1, "params": {"1": 1}, "value": -1}
    process.stdin.write(b"2\n")
    out, err = process.communicate(timeout=TIMEOUT_S)
    assert json.loads(out)["value"] == -2
    assert process.returncode == 0, err


def test_help_imports_no_executor(user: User) -> None:
    code = "import sys; sys.argv = ['pilotmtc', 'map', '--help']\nfrom pilotmtc.cli.app import main\nmain()\n"
    check = "print([name for name in sys.modules if name.startswith('pilotmtc.executor')], file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", code + check],
        env=user.env,
        capture_output=True,
        text=True,
        check=True,
        timeout=TIMEOUT_S,
    )
    assert done.stderr == "[]\n"
