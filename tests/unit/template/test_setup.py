"""Setups, and other shells than /bin/sh: values stay data, and a setup that fails says so."""

import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pilotmtc.errors import UsageError
from pilotmtc.model import Template
from pilotmtc.system.environment import LEFT_OUT, captured
from pilotmtc.template import WHOLE_COMMAND, expand, make_template

SHELLS = [shell for shell in ("sh", "bash", "dash", "bash --posix") if shutil.which(shell.split()[0])]
EVIL = [
    "$(: >EXECUTED)",
    "`: >EXECUTED`",
    "';: >EXECUTED;'",
    "\n: >EXECUTED\n",
    "-v",
    "a[$(: >EXECUTED)]",
    "eval",
    '"',
    " ",
]


def run(template: Template, *params: str, cwd: Path | None = None) -> tuple[int, str, str]:
    words = expand(template, params, task=1, attempt=1, campaign=1).argv
    done = subprocess.run(words, cwd=cwd, capture_output=True, timeout=60, check=False, stdin=subprocess.DEVNULL)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def printed(template: Template, *params: str, cwd: Path | None = None) -> str:
    code, out, err = run(template, *params, cwd=cwd)
    assert (code, err) == (0, ""), err
    return out


@pytest.mark.parametrize("shell", SHELLS)
def test_setup_is_run_before_the_command_in_its_shell(shell: str, tmp_path: Path) -> None:
    (tmp_path / "activate").write_text('echo "sourced with $#"; A=3; export B=4; f() { echo "f: $1 $2"; }\n')
    setup = [". ./activate", "C='{x} %s'  # a comment"]
    line = make_template('f {x} "$A$B"; printf "%s\\n" "$C" "$#"', ["x"], setup=setup, shell_program=shell)
    assert printed(line, "a b", cwd=tmp_path) == "sourced with 0\nf: a b 34\n{x} %s\n0\n"
    words = ["sh", "-c", 'echo "$A $B $1 $#"', "sh", "{x}", "<{x}>"]
    vector = make_template(words, ["x"], setup=setup, shell_program=shell)
    assert printed(vector, "$(a) b", cwd=tmp_path) == "sourced with 0\n 4 $(a) b 2\n"
    whole = make_template(WHOLE_COMMAND, ["command"], setup=setup, shell_program=shell)
    assert printed(whole, "f 1 '2  3' | cat; echo {x}", cwd=tmp_path) == "sourced with 0\nf: 1 2  3\n{x}\n"


@pytest.mark.parametrize("command", ["echo {x}", ["echo", "{x}"]])
def test_setup_that_fails_ends_the_attempt_and_is_named(command: str | list[str]) -> None:
    template = make_template(command, ["x"], setup=["true", "(exit 4) # 5 %"], shell_program="sh")
    assert run(template, "a") == (4, "", "pilotmtc: setup failed with exit code 4: (exit 4) # 5 %\n")


def test_shell_is_bash_with_a_setup() -> None:
    assert make_template("a", setup=["b"]).shell_program == "bash"
    assert expand(make_template("a", setup=["b"]), [], task=1, attempt=1, campaign=1).argv[:2] == ["bash", "-c"]
    assert expand(make_template(["a"]), [], task=1, attempt=1, campaign=1).argv == ["a"]
    assert expand(make_template("a"), [], task=1, attempt=1, campaign=1).argv == ["/bin/sh", "-c", "a"]


@pytest.mark.parametrize(
    ("setup", "shell", "alone"),
    [((), "", True), ((), "bash", True), ((), "bash -l", False), (("true",), "sh", False), (("true",), "", False)],
)
def test_simple_commands_need_no_shell_only_without_setup_and_options(
    setup: Sequence[str], shell: str, alone: bool
) -> None:
    for template, params in (
        (make_template("sort {x}", ["x"], setup=setup, shell_program=shell), ["a b"]),
        (make_template(WHOLE_COMMAND, ["command"], setup=setup, shell_program=shell), ["sort 'a b'"]),
    ):
        made = expand(template, params, task=1, attempt=1, campaign=1)
        assert made.alone == (["sort", "a b"] if alone else None)


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not there")
def test_options_of_the_shell_hold() -> None:
    template = make_template("false | cat; echo no {x}", ["x"], shell_program="bash -eo pipefail")
    assert run(template, "a") == (1, "", "")
    assert printed(make_template("echo {1,2} {x}", ["x"], shell_program="bash"), "a") == "1 2 a\n"


@pytest.mark.parametrize(
    ("shell", "words"),
    [
        ("fish", "is not a shell that tasks can have"),
        ("/usr/bin/zsh", "is not a shell that tasks can have"),
        ("'", "is not a shell that tasks can have"),
        (" ", "is not a shell that tasks can have"),
        ("bash -c", "'-c' in the shell 'bash -c' is not an option"),
        ("bash script", "'script' in the shell"),
        ("bash -o", "ends with '-o', which needs a name"),
        ("bash --rcfile x", "'--rcfile' in the shell"),
        ("sh -n", "'-n' in the shell"),
    ],
)
def test_shells_that_cannot_be_are_named(shell: str, words: str) -> None:
    with pytest.raises(UsageError, match=re.escape(words)):
        make_template("true", shell_program=shell)


def test_setups_that_cannot_be_are_named() -> None:
    with pytest.raises(UsageError, match="in the setup is empty"):
        make_template("true", setup=["true", " "])
    with pytest.raises(UsageError, match="NUL"):
        make_template("true", setup=["a\0"])


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from(EVIL), max_size=3).map("".join), st.sampled_from(SHELLS))
def test_values_are_data_behind_a_setup(tmp_path: Path, value: str, shell: str) -> None:
    lines = ["printf '%s.' {x} \"{x}\" '{x}' \"$(printf '%s' {x})\""]
    vectors = [["printf", "%s.", "{x}", "<{x}>"], ["test", "-n", "{x}"], ["env", "printf", "{x}"]]
    for command in [*lines, *vectors]:
        template = make_template(command, ["x"], setup=["A='${x}'", "set -f"], shell_program=shell)
        code, out, _ = run(template, value, cwd=tmp_path)
        assert not (tmp_path / "EXECUTED").exists()
        if command == vectors[0]:
            assert (code, out) == (0, f"{value}.<{value}>.")


def test_environment_is_captured_without_what_is_not_of_the_work() -> None:
    kept = {
        "PATH": "/a:/b",
        "LD_LIBRARY_PATH": "/l",
        "BASH_FUNC_module%%": "() {  x\n}",
        "OMP_NUM_THREADS": "2",
        "E": "",
    }
    left = [
        "HOME", "USER", "PWD", "TERM", "TERM_PROGRAM", "SSH_AUTH_SOCK", "SLURM_JOB_ID", "PILOTMTC_STORE", "PS1",
        "AWS_SECRET_ACCESS_KEY", "GITHUB_TOKEN", "my_password", "CUDA_VISIBLE_DEVICES", "not a name", "1A",
    ]  # fmt: skip
    assert captured(kept | dict.fromkeys(left, "x") | {"BAD": "\udcff"}) == kept


def test_what_is_left_out_is_documented() -> None:
    text = (Path(__file__).parents[3] / "docs/tasks.md").read_text()
    table = text[text.index("**`capture_env = true`**") : text.index("## How a task is ended")]
    rows = [line for line in table.splitlines() if line.startswith("| `")]
    assert sorted(word for row in rows for word in re.findall(r"`([^`]+)`", row.split(" | ")[0])) == sorted(
        LEFT_OUT.split()
    )
