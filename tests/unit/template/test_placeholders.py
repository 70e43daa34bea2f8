"""Placeholders: what is replaced, and what is left alone."""

import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pilotmtc.errors import UsageError
from pilotmtc.model import Template
from pilotmtc.template import expand, holes, literal, make_template, names, render, shown

VALUES = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), max_size=20)


def argv(template: Template, *params: str, task: int = 7, attempt: int = 2, campaign: int = 3) -> list[str]:
    return expand(template, params, task=task, attempt=attempt, campaign=campaign).argv


def line(command: str, *params: str, fields: tuple[str, ...] | None = None) -> str:
    known = fields or tuple(str(number) for number in range(1, len(params) + 1))
    return shown(make_template(command, known), params, task=7, attempt=2, campaign=3)


def test_shell_line_runs_under_sh_with_its_values_beside_it() -> None:
    words = argv(make_template("python work.py {} {task_id} {}", ["1"]), "a b")
    variables = "pilotmtc_1=${1} pilotmtc_2=${2}; set --; "
    assert words[:3] == ["/bin/sh", "-c", variables + 'python work.py "$pilotmtc_1" "$pilotmtc_2" "$pilotmtc_1"']
    assert words[3:] == ["/bin/sh", "a b", "7"]
    assert argv(make_template("python work.py")) == ["/bin/sh", "-c", "python work.py"]


def test_variables_of_the_line_itself_are_not_taken() -> None:
    words = argv(make_template("echo $pilotmtc_1 {}", ["1"]), "a")
    assert words[2] == 'pilotmtc__1=${1}; set --; echo $pilotmtc_1 "$pilotmtc__1"'


def test_argument_vector_takes_values_as_they_are() -> None:
    template = make_template(["sim", "--mass={mass}", "{seed}"], ["mass", "seed"])
    assert argv(template, "1.5", "a b'c") == ["sim", "--mass=1.5", "a b'c"]


def test_names_positions_and_builtins_are_replaced() -> None:
    template = make_template(["{b}", "{1}", "{task_id}.{attempt}.{campaign_id}"], ["a", "b"])
    assert argv(template, "x", "y") == ["y", "x", "7.2.3"]


def test_all_values_are_joined_by_blanks() -> None:
    assert line("echo {}", "a b", "c") == "echo 'a b' c"
    assert line("echo --v={} > {}", "a b", "c") == "echo --v='a b'' 'c > 'a b'' 'c"
    assert argv(make_template(["echo", "<{}>"], ["a", "b"]), "x", "y") == ["echo", "<x y>"]


def test_all_values_alone_in_an_argument_become_that_many_arguments() -> None:
    assert argv(make_template(["echo", "{}"], ["a", "b"]), "x y", "z") == ["echo", "x y", "z"]


@pytest.mark.parametrize(
    "text",
    ["awk '{print $1}'", "${HOME}", "${x}", "${{x}}", "a{1,2}", "{1..3}", "{ x }", "{a b}", "jq '{a:.b}'", "{", "}"],
)
def test_other_braces_are_left_alone(text: str) -> None:
    assert line(f"echo {{x}} {text}", "1", fields=("x",)) == f"echo 1 {text}"
    assert argv(make_template([text], ["x"]), "1") == [text]


def test_doubled_braces_are_literal() -> None:
    template = make_template(["{{x}}", "{{}}", "{{1}}", "{{nobody}}", "{{x}}{x}"], ["x"])
    assert argv(template, "1") == ["{x}", "{}", "{1}", "{nobody}", "{x}1"]


def test_value_is_not_expanded_again() -> None:
    assert argv(make_template(["{a}{b}"], ["a", "b"]), "{b}", "%s{a}") == ["{b}%s{a}"]


def test_percent_signs_survive() -> None:
    assert argv(make_template(["date", "+%Y%s-{a}%"], ["a"]), "1") == ["date", "+%Y%s-1%"]


def test_field_of_any_text_can_be_named() -> None:
    assert argv(make_template(["{mass (GeV)}", "{größe}"], ["mass (GeV)", "größe"]), "1", "2") == ["1", "2"]


def test_unnamed_values_that_nothing_mentions_are_appended() -> None:
    assert line("echo", "a b", "c") == "echo 'a b' c"
    assert argv(make_template(["echo", "-n"], ["1", "2"]), "a b", "c") == ["echo", "-n", "a b", "c"]


def test_values_are_not_appended_when_named_or_mentioned_elsewhere() -> None:
    assert make_template("sim", ["mass"]).command == ("sim",)
    assert make_template("wc", ["1"], stdin="{}").command == ("wc",)
    assert make_template("wc", ["1"], env={"X": "{1}"}).command == ("wc",)
    assert make_template("wc", ["1"], stdout="{1}.out").command == ("wc {1}",)
    assert make_template("wc {task_id}", ["1"]).command == ("wc {task_id} {1}",)
    assert make_template("sim --mass {mass}", ["1", "mass"]).command == ("sim --mass {mass} {1}",)


def test_env_and_files_are_expanded_without_quotes() -> None:
    template = make_template(
        ["x"], ["a"], env={"A": "<{a}>"}, cwd="/w/{a}", stdin="/in/{a}", stdout="o/{task_id}", stderr="{attempt}"
    )
    found = expand(template, ["b c"], task=1, attempt=2, campaign=3)
    assert (found.env, found.cwd) == ({"A": "<b c>"}, "/w/b c")
    assert (found.stdin, found.stdout, found.stderr) == ("/in/b c", "/w/b c/o/1", "/w/b c/2")


def test_unknown_placeholder_names_fields_nearest_and_literal() -> None:
    with pytest.raises(UsageError, match=r"\{sed\} in the command .*mass, seed.*did you mean \{seed\}.*\{\{sed\}\}"):
        make_template("sim {sed}", ["mass", "seed"])


@pytest.mark.parametrize(
    ("command", "fields", "words"),
    [
        ("", [], "empty"),
        ([], [], "empty"),
        ("x {}", [], "no parameters"),
        ("x {1}", [], "no parameters"),
        ("x {3}", ["a", "b"], "no parameter"),
        ("x {0}", ["a"], "no parameter"),
        ("x {a}", ["a", "a"], "two parameters"),
        ("x", [""], "cannot name"),
        ("x", ["a{"], "cannot name"),
        ("x", ["2", "1"], "position"),
        ("x {task_id}", ["task_id"], "rename"),
        ("x `{a}`", ["a"], "backquotes"),
        ("cat <<EOF\n{a}\nEOF", ["a"], "here-document"),
        ("x \0", [], "NUL"),
        ("x \udcff", [], "UTF-8"),
    ],
)
def test_wrong_templates_are_named(command: str | list[str], fields: list[str], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        make_template(command, fields)


def test_wrong_limits_and_variables_are_named() -> None:
    with pytest.raises(UsageError, match="max_retries is -1"):
        make_template("x", max_retries=-1)
    with pytest.raises(UsageError, match="backoff_s is nan"):
        make_template("x", backoff_s=float("nan"))
    with pytest.raises(UsageError, match="the limit of a task's output is 0: give at least 1 byte"):
        make_template("x", max_output_bytes=0)
    with pytest.raises(UsageError, match="'A=B' cannot name"):
        make_template("x", env={"A=B": "1"})
    with pytest.raises(UsageError, match="variable A"):
        make_template("x", env={"A": "{q}"})


def test_wrong_number_of_values_is_an_error() -> None:
    with pytest.raises(UsageError, match="task 7 brings 1 values for the 2 parameters"):
        argv(make_template("x {a} {b}", ["a", "b"]), "1")


def test_comments_and_quoted_here_documents_do_not_disturb() -> None:
    assert line("echo {a} # don't {b}\necho {a}", "x y", fields=("a",)) == "echo 'x y' # don't {b}\necho 'x y'"
    found = line("cat <<'E O'\nit's\nE O\necho {a}", "x", fields=("a",))
    assert found.endswith("echo x")
    assert line("cat <<-EOF\n it's {print}\n\tEOF\necho {a}", "x y", fields=("a",)).endswith("\necho 'x y'")


@settings(max_examples=60, deadline=None)
@given(VALUES, VALUES)
def test_values_reach_the_program_unchanged_however_they_are_quoted(first: str, second: str) -> None:
    command = """printf '%s\\0' {a} "{a}" '{a}' "x{a}"'y{b}' "$(printf '%s.' {a} "{b}")" "\\"{b}" \\"{b} {}"""
    words = argv(make_template(command, ["a", "b"]), first, second)
    done = subprocess.run(words, stdout=subprocess.PIPE, check=True, timeout=20)
    expected = [
        first,
        first,
        first,
        f"x{first}y{second}",
        f"{first}.{second}.",
        f'"{second}',
        f'"{second}',
        first,
        second,
    ]
    assert done.stdout.decode().split("\0")[:-1] == expected


@given(st.text(alphabet="{}$'\"`()<#\\ \nab1_=E"), st.booleans())
def test_any_command_makes_a_template_or_a_usage_error(command: str, shell: bool) -> None:
    try:
        template = make_template(command if shell else [command], ["a", "b"])
    except UsageError:
        return
    argv(template, "1", "2")


@given(st.text(alphabet="{}$ab1_ x.:/#["))
def test_literal_survives_expansion(text: str) -> None:
    assert render(literal(text, ["a"]), ["a"], "name")(["v"]) == text


def test_render_knows_no_builtins() -> None:
    assert render("fit-{a}-{2}", ["a", "b"], "name")(["1", "2"]) == "fit-1-2"
    with pytest.raises(UsageError, match=r"\{task_id\} in the name is not known before"):
        render("{task_id}", ["a"], "name")


def test_holes_show_what_varies() -> None:
    assert holes("fit-{a}-{{b}}", ["a"]) == ["fit-", None, "-", "{b}"]


def test_many_templates_expand_each_in_its_own_way() -> None:
    for number in range(1100):  # more than the cache holds
        assert argv(make_template(["x", "{a}"], ["a"]), str(number)) == ["x", str(number)]


def test_names_that_a_command_has_for_its_values() -> None:
    assert names(["{a} '{b}' \"{c}\" $(({d})) $(x {e}) {{f}} {#} {task_id}"], shell=True) == ["a", "d", "e"]
    assert names(["{a} {.}"], shell=True) == ["a", ""]
    assert names(["`{a}`"], shell=True) == ["a"]  # refused, but under that name
    assert names(["{a}", "'{b}'", "{c:03d} {d.} {#} {%}"], shell=False) == ["a", "b", "c", "d"]


@pytest.mark.parametrize("text", ["{%}", "{x!r}", "{x[0]}", "{x.stem}"])
def test_what_other_tools_have_in_braces_is_an_error_that_says_what_to_do(text: str) -> None:
    for command in (f"echo {text}", f"echo 'a{text}'", ["echo", text]):
        with pytest.raises(UsageError, match=r"\{.*\} in the command is no placeholder.*\{\{"):
            make_template(command, ["x"])
    with pytest.raises(UsageError, match="is no placeholder"):
        make_template("true", ["x"], stdout=f"out_{text}")
    assert argv(make_template(["echo", f"{{{text}}}"], ["x"]), "1") == ["echo", text]
    assert line(f"echo {{{text}}} {{x}}", "1", fields=("x",)) == f"echo {text} 1"


def test_misspelt_name_with_a_change_is_an_error() -> None:
    for text in ("{sede:03d}", "{sede.}", "{sede//}"):
        with pytest.raises(UsageError, match=r"\{sede\S+\} in the command is no parameter.*did you mean \{seed"):
            make_template(f"echo {text}", ["seed"])
