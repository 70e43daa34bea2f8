"""Values in shell lines: whatever they are, shells take them for data, and what is not sure is refused."""

import contextlib
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from pilotmtc.errors import UsageError
from pilotmtc.template import checker, expand, functions, make_template

# What /bin/sh is on the machines that we know, where they are installed.
SHELLS = [shell for shell in (["dash"], ["bash", "--posix"]) if shutil.which(shell[0])]
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "HOME": "/h", "LC_ALL": "C.UTF-8"}
MARK = "EXECUTED"
EVIL = [
    *[
        text.replace("RUN", f": >{MARK}")
        for text in (
            "$(RUN)", "`RUN`", "';RUN;'", '";RUN;"', "\nRUN\n", ";RUN;", "a[$(RUN)]", "-va[$(RUN)]", "}$(RUN)",
            "E\nRUN\n", "));RUN;((", "};RUN;{", ";;esac;RUN;", "x=1;RUN", "a[$(RUN)]=1",
        )
    ],
    "-v", "eval", "printf", "read", ".", "\\", "'", '"', "}", "{", ")", "(", "#", "a", " ", "*", "~", "$HOME",
    "-c", "!", "é",
]  # fmt: skip
values = st.lists(st.sampled_from(EVIL), max_size=4).map("".join)


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("shell")


def run(command: str, fields: list[str], params: list[str], here: Path) -> list[bytes]:
    """Return what each kind of shell prints; no value may have been executed."""
    made = expand(make_template(command, fields), params, task=1, attempt=1, campaign=1)
    printed = []
    for shell in SHELLS:
        done = subprocess.run(
            [*shell, *made.argv[1:]], cwd=here, stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False,
            env=ENVIRONMENT,
        )  # fmt: skip
        assert not (here / MARK).exists(), (shell, made.argv)
        printed.append(done.stdout)
    if made.alone is not None and shutil.which(made.alone[0], path=ENVIRONMENT["PATH"]):
        alone = subprocess.run(
            made.alone, cwd=here, stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False,
            env=ENVIRONMENT,
        )  # fmt: skip
        assert not (here / MARK).exists(), made.alone
        assert [alone.stdout] * len(SHELLS) == printed
    return printed


# -- everyday lines -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "printed"),
    [
        ("echo {x} | cat", "{x}\n"),
        ("echo a > out_{x}.txt; cat out_{x}.txt", "a\n"),
        ('echo "$HOME/{x}"', "/h/{x}\n"),
        ("echo --opt={x}", "--opt={x}\n"),
        ("echo ~/{x}", "/h/{x}\n"),
        ("for i in 1 {x}; do echo $i; done", "1\n{x}\n"),
        ("for i in 1 2\ndo\n  echo {x}$i\ndone", "{x}1\n{x}2\n"),
        ("echo $(echo {x})", "{x}\n"),
        ('echo "<$(echo "{x}")>"', "<{x}>\n"),
        ("echo '<{x}>' \"{x}\"", "<{x}> {x}\n"),
        ("A={x} sh -c 'echo $A'", "{x}\n"),
        ("export A={x}; sh -c 'echo $A'", "{x}\n"),
        ("export A{x}=3; echo $A{x}", "{x}\n"),
        ('f() { echo "$1" {x} "$#"; }; f 7 8', "7 {x} 2\n"),
        ("echo $# {x} $1", "0 {x}\n"),
        ("case {x} in 12) echo yes {x};; *) echo no;; esac", "yes {x}\n"),
        ("case a in (a) echo {x};; esac", "{x}\n"),
        ("if [ {x} -gt 3 ]; then echo {x}; else echo no; fi", "{x}\n"),
        ('[ "{x}" = 12 ] && [ -n {x} ] && echo y', "y\n"),
        ("test {x} != 2 && echo y", "y\n"),
        ("echo $(({x} % 7 == 5)) $((2 * ({x} - 1)))", "1 22\n"),
        ("exit $(({x} - 12)); echo", ""),
        ("cd / && pwd; echo {x}", "/\n{x}\n"),
        ("(cd /; echo {x}) 2>&1 >/dev/null; { echo {x}; }", "{x}\n"),
        ("echo a#b {x} # not {x}", "a#b {x}\n"),
        ("# it's a comment\necho {x}", "{x}\n"),
        ("echo a \\\n  {x} \\\n  b", "a {x} b\n"),
        ("echo a &&\\\necho {x}", "a\n{x}\n"),
        ("cat <<E\nit's $HOME\nE\necho {x}", "it's /h\n{x}\n"),
        ("cat <<'E F'\nit's $(\nE F\necho {x}", "it's $(\n{x}\n"),
        ("cat <<-E >&2\n\tit's\n\tE\necho {x}", "{x}\n"),
        ("echo ${OUT:-$HOME/o}/{x} ${#HOME} ${HOME%/*}", "/h/o/{x} 2\n"),
        ('echo `echo "it\'s"` {x}', "it's {x}\n"),
        ("sh -c 'echo \"$1\"' - {x}", "{x}\n"),
        ("sh -c 'echo {x}'", "{x}\n"),
        ('bash -ec "echo {x}"', "{x}\n"),
        ("awk -v x={x} 'BEGIN {{print}} {print $1}' /dev/null", ""),
        ("echo a b | awk '{print $1, \"{x}\"}'", "a {x}\n"),
        ("echo \\{x} {{x}}", "{x} {x}\n"),
        ("printf '%s\\n' {x}; printf '{x}\\n'", "{x}\n{x}\n"),
        ("while read l; do echo $l; done < /dev/null; echo {x}", "{x}\n"),
        ("trap 'echo end' EXIT; v={x}; echo $v", "{x}\nend\n"),
        ("eval 'echo a'; echo {x}", "a\n{x}\n"),
        ("echo {x}>&2; echo 2>/dev/null {x}", "{x}\n"),
        ("! false && echo {x}", "{x}\n"),
        ("echo {x} &\nwait", "{x}\n"),
        ("  echo {x}", "{x}\n"),
        ('echo \'"x": {x}, {"a": 1}\'', '"x": {x}, {"a": 1}\n'),
    ],
)
def test_everyday_line_is_taken_and_right(command: str, printed: str, here: Path) -> None:
    # Literal braces show that the value is put in nowhere else.
    expected = printed if "{{x}}" in command else printed.replace("{x}", "12")
    if "{{x}}" in command:
        expected = "{x} {x}\n"
    command = command.replace("BEGIN {{print}}", "BEGIN {}") if "BEGIN" in command else command
    assert run(command, ["x"], ["12"], here) == [expected.encode()] * len(SHELLS)


# -- what is refused ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ('echo "$(case a in a) printf %s "{x}";; esac)"', "case in parentheses"),
        ('echo "${v:-"{x}"}"', "shells differ"),
        ('echo "${HOME#"{x}"}" {x}', "shells differ"),
        ("echo $'{x}'", "shells differ"),
        ("echo $'a\\'b' {x}", "shells differ"),
        ('echo $"{x}"', "shells differ"),
        ("echo $[{x}+1]", "shells differ"),
        ("echo `echo {x}`", r"write \$\(\.\.\.\)"),
        ("cat <<E\n{x}\nE", "here-document"),
        ("cat <<E\n${v:-a}\nE\necho {x}", "here-document"),
        ("cat <<E$\nE\necho {x}", "here-document"),
        ('echo "$(echo # it\'s\necho {x})"', "comment in parentheses"),
        ("[[ {x} -eq 1 ]]", r"\[\["),
        ("(( {x} ))", "arithmetic"),
        ("a[{x}]=1", "index of an array"),
        ("eval echo {x}", "eval reads it"),
        ("eval echo {x} ${v:-'}", "eval reads it"),
        ("command eval {x}", "eval reads it"),
        ("A=1 $NONE eval {x}", "eval reads it"),
        ("if :; then ! eval {x}; fi", "eval reads it"),
        ("case a in (b) ;; (a) eval {x};; esac", "eval reads it"),
        ("{ :; } && eval {x}", "eval reads it"),
        ("time -p eval {x}", "eval reads it"),
        ("for i do eval {x}; done", "eval reads it"),
        ("f ( ) { eval {x}; }", "parenthes"),
        ('trap "rm {x}" EXIT', "trap reads it"),
        ("declare -i n={x}", "without options"),
        ("echo '{x}", "not closed"),
        ("echo --a={x}${v:-'}", "shells differ"),
    ],
)
def test_what_is_not_surely_data_is_refused_with_the_reason(command: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        make_template(command, ["x"])


@pytest.mark.parametrize(
    ("command", "good", "bad"),
    [
        ("echo $(({x}))", "-0x1F", "a[1]"),
        ("{x} a", "./a.sh", "eval"),
        ("command -p {x} a", "ls", "printf"),
        ("sh -c 'echo {x}'", "a-b_c.d/é", "a b"),
        ("srun -n 2 bash -o pipefail -ec 'echo {x}' - {x}", "a", "$a"),
        ("$SHELL -c {x}", "a-b", "a b"),
        ("{x}${v}sh -c {x}", "a", ";: a"),
        ("export {x}", "A=b c", "a[1]=2"),
        ("read {x}", "name", "a[1]"),
        ("unset -v {x}", "name", "a[1]"),
        ("printf {x}", "a%s", "-va"),
        ("test {x} {x}", "-n", "-v"),
        ("[ -v {x} ]", "A", "a[1]"),
    ],
)
def test_values_that_a_shell_would_read_again_are_refused_before_they_are_submitted(
    command: str, good: str, bad: str
) -> None:
    template = make_template(command, ["x"])
    check = checker(template)
    assert check is not None
    check([good])
    with pytest.raises(UsageError, match=r"cannot be the value of \{x\}"):
        check([bad])
    with pytest.raises(UsageError, match=r"cannot be the value of \{x\}"):
        expand(template, [bad], task=1, attempt=1, campaign=1)


def test_values_of_other_lines_are_not_looked_at() -> None:
    assert checker(make_template("echo {x} | bash run.sh -c {x}", ["x"])) is None
    assert checker(make_template(["sh", "-c", "{x}"], ["x"])) is None


@pytest.mark.parametrize(
    ("command", "behind"),
    [
        ("echo hi # note", "comment '# note'"),
        ("true;", "';'"),
        ("sleep 1 &", "'&'"),
        ("echo a |", r"'\|'"),
        ("echo >", "redirection"),
        ("(ls)", r"'\)'"),
        ("{ ls; }", "'}'"),
        ("for i in a; do echo $i; done", "'done'"),
        ("A=1", "'A=1'"),
        ("cat <<E\nx\nE", r"'\\n'"),
        ("echo ${v:-'a'}", "shells differ"),
        ("echo a\\", "backslash"),
    ],
)
def test_values_are_added_only_where_they_are_arguments(command: str, behind: str) -> None:
    with pytest.raises(UsageError, match=rf"behind .*{behind}.*write \{{\}} where"):
        make_template(command, ["1"])


def test_value_that_only_a_comment_mentions_is_not_added() -> None:
    for command in ("echo a # {}", "echo a  # run {1} of many", "make\n# {}"):
        assert make_template(command, ["1"]).command == (command,)


def test_values_are_added_behind_what_takes_arguments() -> None:
    for command in ("echo", "echo a > b", "cd a && echo  ", "echo a # b\necho", "echo '# a;'", "A=1 echo"):
        assert make_template(command, ["1"]).command == (f"{command.rstrip()} {{1}}",)


def test_line_that_begins_as_an_option_is_none_of_the_shell(here: Path) -> None:
    assert run("{} x", ["1"], ["-v"], here) == [b""] * len(SHELLS)
    assert expand(make_template("-v x"), [], task=1, attempt=1, campaign=1).argv == ["/bin/sh", "-c", " -v x"]


# -- lines that need no shell -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("python sim.py", ["python", "sim.py"]),
        (" ./a.out \t-n 3  --x=1,2 a:b @c %d +e ", ["./a.out", "-n", "3", "--x=1,2", "a:b", "@c", "%d", "+e"]),
        ("g++ '' \"\" 'a  b' c' 'd\"e 'f\"", ["g++", "", "", "a  b", "c de 'f"]),
        ("awk '{print $1; # $2\n}' x\n", ["awk", "{print $1; # $2\n}", "x"]),
        ("python -c {x} {y}", ["python", "-c", "v w", "$(z)"]),
        ("/bin/echo {x}.\"{y}\"'{x}' a={y}", ["/bin/echo", "v w.$(z)v w", "a=$(z)"]),
        ("cat {}", ["cat", "v w", "$(z)"]),
        ("cat a{}", ["cat", "av w $(z)"]),
        ("cat '{{x}}'", ["cat", "{x}"]),
        ("run {task_id}.{attempt}", ["run", "7.1"]),
    ],
)
def test_simple_command_needs_no_shell(command: str, words: list[str]) -> None:
    made = expand(make_template(command, ["x", "y"]), ["v w", "$(z)"], task=7, attempt=1, campaign=1)
    assert made.alone == words
    assert made.argv[:2] == ["/bin/sh", "-c"]


@pytest.mark.parametrize(
    "command",
    [
        "echo a", "cd /tmp", "exec ./a", "time ./a", "test 1", ". ./a", "true", "A=1 ./a", "A= ./a", "./a =b",
        "./a > b", "./a | ./b", "./a; ./b", "./a\n./b", "./a &", "./a && ./b", "(./a)", "./a $B", "./a ${B}", "./a `b`",
        './a "$B"', './a "`b`"', "./a *", "./a b?", "./a [b]", "./a ~", "./a ~/b", "./a {b,c}", "./a # b", "./a \\b",
        "./a b\\", '"./a" b', "'./a' b", "./a 'b", "{x} a", "./{x}", "! ./a", "./a !", '"', "if", "./a {{x}}", "./a \1",
        "./a b\rc", "./a é", "-v",
        "eval {x}", "./a <<E\nb\nE", "./a $((1 + {x}))",
    ],
)  # fmt: skip
def test_all_else_needs_one(command: str) -> None:
    with contextlib.suppress(UsageError):
        assert expand(make_template(command, ["x"]), ["1"], task=1, attempt=1, campaign=1).alone is None


def test_functions_that_bash_finds_in_its_environment() -> None:
    environ = {"BASH_FUNC_module%%": "() { :; }", "BASH_FUNC_ml()": "() { :; }", "PATH": "/bin"}
    assert functions(environ) == {"module", "ml"}


WORDS = [
    "a", "-n", "--x=1", "a.b/c", "@", "%s", ":", ",", "+", "_", "''", '""', "'a b'", '"it\'s #"', "'{{'", "é", "=", "~",
    "\\", "#", "{x}", '"{x}"', "'{x}'", "!", "$v", "{a,b}", "1", ">",
]  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(st.lists(st.lists(st.sampled_from(WORDS), min_size=1, max_size=3).map("".join), max_size=4), values)
def test_command_alone_does_what_a_shell_does(here: Path, words: list[str], value: str) -> None:
    with contextlib.suppress(UsageError):
        run(f"/usr/bin/printf %s:%s. {' '.join(words)}", ["x"], [value], here)


# -- whatever the line, whatever the value ------------------------------------------------------------------------

NOISE = [
    "{x}", '"{x}"', "'{x}'", "{x}", " ", " ", "\n", ";", "|", "&&", "(", ")", "$(", '"$(', ')"', "`", "'", '"', "\\",
    "#", "${v:-", "${v}", "}", "{ ", "; }", "$((", "))", "((", "[[ ", " ]]", "[ ", " ]", "<<E\n", "\nE\n", "<<'E'\n",
    "<<-E\n", ">o ", "<", "<<<", "&", "$'", '$"', "$[", "case a in a)", ";;", " esac", "if :; then ", "; fi",
    "for i in ", "; do ", "; done", "f() ", "printf ", "printf %s ", "test ", "echo ", "eval ", "command ", "trap ",
    "export ", "read ", "unset ", "let ", "declare -i n;", "A=", "a[", "]=", "-v ", "! ", "sh -c ", "$v", "\\\n", "1",
]  # fmt: skip


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
@given(st.lists(st.sampled_from(NOISE), min_size=1, max_size=9).map("".join), values, values)
def test_no_value_is_executed_in_any_line_that_is_taken(here: Path, command: str, first: str, second: str) -> None:
    assume("{x}" in command)
    with contextlib.suppress(UsageError):
        run(command.replace("{x}", "{y}", 1), ["x", "y"], [first, second], here)


SAFE = [
    ": ${v:-a b}; ", "# it's\n", ": 'a' \"b\" \\' a#b; ", ": $((1 + (2 * 3))); ", 'v="$(echo ")")"; ', "f() { :; }; ",
    "cat <<E >&2\nit's\nE\n", "case a in b|c) :;; esac; ", ": `echo \"it's\"`; ", "{ :; }; ", "(:); ",
    "if :; then :; fi; ", ": > o; ", "A={x}; ", ": \\\n a; ", ": {x} > o; ", "[ -n {x} ]; ",
    "for i in {x}; do :; done; ",
]  # fmt: skip
ARGUMENTS = {
    "{x}": "{x}",
    '"{x}"': "{x}",
    "'{x}'": "{x}",
    "--o={x}.": "--o={x}.",
    "\"a'{x}\"'b\"{x}'": "a'{x}b\"{x}",
    "\\'{x}\\\"": "'{x}\"",
    "\"$(printf '%s.' {x} \"{x}\" '{x}')\"": "{x}.{x}.{x}.",
    '"$(printf %s "$(printf %s. "<{x}")")"': "<{x}.",
    "$HOME{x}": "/h{x}",
    "~{x}": "~{x}",
    '"${HOME}{x}$((1+1))"': "/h{x}2",
    "'${v}'{x}": "${v}{x}",
}


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.sampled_from(SAFE), max_size=3).map("".join),
    st.lists(st.sampled_from(list(ARGUMENTS)), min_size=1),
    values,
)
def test_value_reaches_the_program_as_it_is(here: Path, before: str, words: list[str], value: str) -> None:
    printed = run(f"{before}printf '%s\\0' {' '.join(words)}", ["x"], [value], here)
    expected = "".join(ARGUMENTS[word].replace("{x}", value) + "\0" for word in words)
    assert printed == [expected.encode()] * len(SHELLS)
