"""What may follow a placeholder's name: parts of paths as GNU parallel has them, and Python's formats."""

import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pilotmtc.errors import UsageError
from pilotmtc.model import Template
from pilotmtc.template import checker, expand, make_template, render, shown, wants_number
from pilotmtc.template.changes import changer
from tests.lab.machine import ROOT, alone, install

PATHS = ("", ".", "/", "//", "/.")


def argv(template: Template, *params: str) -> list[str]:
    return expand(template, params, task=7, attempt=2, campaign=3).argv


def printed(command: str, fields: list[str], *params: str) -> str:
    words = argv(make_template(command, fields), *params)
    return subprocess.run(words, capture_output=True, check=True, timeout=20).stdout.decode()


@pytest.mark.parametrize(
    ("value", "parts"),
    [
        ("a.txt", ["a", "a.txt", ".", "a"]),
        ("/d.x/f.tar.gz", ["/d.x/f.tar", "f.tar.gz", "/d.x", "f.tar"]),
        ("d.x/plain", ["d.x/plain", "plain", "d.x", "plain"]),
        ("/f", ["/f", "f", "/", "f"]),
        ("d/", ["d/", "", ".", ""]),
        ("a//b", ["a//b", "b", "a", "b"]),
        ("d/.profile", ["d/.profile", ".profile", "d", ".profile"]),
        ("", ["", "", ".", ""]),
        ("a b/c\nd.e", ["a b/c\nd", "c\nd.e", "a b", "c\nd"]),
    ],
)
def test_parts_of_paths(value: str, parts: list[str]) -> None:
    assert [changer("x", change)(value) for change in PATHS[1:]] == parts
    command = [f"{{{name}{change}}}" for name in ("x", "1", "") for change in PATHS[1:]]
    assert argv(make_template(command, ["x"]), value) == parts * 3


def test_parts_of_paths_are_those_of_gnu_parallel(tmp_path: Path) -> None:
    if ROOT:
        with alone():
            install({"/usr/bin/parallel": "parallel"})
    elif not shutil.which("parallel"):
        pytest.skip("there is no GNU parallel to compare with")
    values = ["a.txt", "/d.x/f.tar.gz", "d.x/plain", "/f", "a//b.c", "a b/c d.e", "d/e/", "x."]
    command = "printf '%s|' {} {.} {/} {//} {/.} {#}"
    done = subprocess.run(
        ["parallel", "-k", "-j1", command, ":::", *values], capture_output=True, timeout=60, text=True, check=True,
        env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "PARALLEL_HOME": str(tmp_path)},
    )  # fmt: skip
    ours = [printed(command, ["1", "#"], value, str(number)) for number, value in enumerate(values, 1)]
    assert "".join(ours) == done.stdout


@pytest.mark.parametrize(
    ("change", "value", "text"),
    [
        (":03d", "7", "007"),
        (":03d", "-7", "-07"),
        (":+d", "007", "+7"),
        (":x", "255", "ff"),
        (":#010b", "5", "0b00000101"),
        (":,d", "1234567", "1,234,567"),
        (":.2f", "1.005e1", "10.05"),
        (":.2f", "3", "3.00"),
        (":e", "12", "1.200000e+01"),
        (":.0%", "0.25", "25%"),
        (":.3", "2", "2.0"),
        (":05", "7", "00007"),
        (":05", "1.5", "001.5"),
        (":>4", "ab", "  ab"),
        (":_<4", "1.50", "1.50"),
        (":*^6", "1.5", "*1.5**"),
        (":4s", "7", "7   "),
        (":.2s", "abc", "ab"),
        (":", "as it is", "as it is"),
    ],
)
def test_formats(change: str, value: str, text: str) -> None:
    assert changer("x", change)(value) == text
    assert argv(make_template([f"<{{x{change}}}>", "{x}"], ["x"]), value) == [f"<{text}>", value]
    assert printed(f"printf '%s' {{x{change}}}", ["x"], value) == text


@pytest.mark.parametrize(
    ("change", "value", "what"),
    [
        (":03d", "1.5", "whole numbers"),
        (":03d", "abc", "whole numbers"),
        (":03d", "", "whole numbers"),
        (":.2f", "abc", "numbers"),
        (":.2f", "nan", "numbers"),
        (":.2f", "1e999", "numbers"),
        (":.2f", "9" * 400, "numbers"),
        (":05", "abc", "numbers"),
        (":d", "9" * 5000, "whole numbers"),
        (":d", "1_000", "whole numbers"),
        (":d", "٣", "whole numbers"),
    ],
)
def test_value_that_is_no_number_is_an_error_when_it_is_submitted(change: str, value: str, what: str) -> None:
    for template in (
        make_template(f"echo {{x{change}}}", ["x"]),
        make_template("true", ["x"], stdout=f"{{x{change}}}"),
    ):
        check = checker(template)
        assert check is not None
        check(["7"])
        with pytest.raises(
            UsageError, match=rf"cannot be the value of \{{x:\S+\}}, which is for {what}: write \{{x\}}"
        ):
            check([value])


@pytest.mark.parametrize("change", [":d3", ":03q", ":c", ":n", ":.2d", ":99999d", ":.2000f", ":=5s", ":,s", ":{}d"])
def test_wrong_format_is_an_error_before_there_are_values(change: str) -> None:
    with pytest.raises(UsageError, match=r"\{x:.*\}"):
        changer("x", change)
    if "{" not in change:
        with pytest.raises(UsageError, match=r"in the (command|tag)"):
            make_template(f"echo {{x{change}}}", ["x"])
        with pytest.raises(UsageError, match=r"in the tag"):
            render(f"{{x{change}}}", ["x"], "tag")


def test_changes_are_of_all_values_where_the_name_is_left_out() -> None:
    assert argv(make_template(["{.}", "<{:03d}>"], ["a", "b"]), "1", "2") == ["1", "2", "<001 002>"]
    assert argv(make_template(["{.}"], ["a", "b"]), "x.c", "y.d") == ["x", "y"]
    assert printed("printf '%s|' {/} '{.}'", ["1", "2"], "d/x y.c", "z.d") == "x y.c|z.d|d/x y z|"


def test_changes_of_what_pilotmtc_knows() -> None:
    template = make_template(["{task_id:06d}.{attempt:02d}.{campaign_id:x}"], ["a"])
    assert argv(template, "x") == ["000007.02.3"]


def test_number_of_the_row_is_a_value_that_braces_alone_leave_out() -> None:
    assert argv(make_template(["{}", "{#}", "{#:03d}"], ["a", "#"]), "x", "5") == ["x", "5", "005"]
    assert argv(make_template(["<{}>", "{}"], ["a", "b", "#"]), "x", "y", "5") == ["<x y>", "x", "y"]
    assert printed("printf '%s|' {} {#}", ["1", "2", "#"], "a", "b", "5") == "a|b|5|"
    assert make_template("echo {#}", ["1", "#"]).command == ("echo {#}",)  # values are mentioned, as with GNU parallel
    with pytest.raises(UsageError, match=r"\{3\} in the command is no parameter"):
        make_template(["{3}"], ["a", "b", "#"])
    with pytest.raises(UsageError, match="number of a row of parameters, and there are no rows"):
        make_template("echo {#}")


def test_who_wants_numbers_of_rows() -> None:
    assert wants_number(["a", "b{#}"], ["x"])
    assert wants_number(["{#:03d}"], [])
    assert not wants_number(["{{#}} {x} ${#} {% #}"], ["x"])


def test_names_of_columns_may_look_like_changes() -> None:
    fields = ["m/s", "a.b", "x:1", "x", "v."]
    template = make_template(["{m/s}", "{a.b}", "{x:1}", "{x:1:>3}", "{x:2d}", "{v.}", "{v./}"], fields)
    assert argv(template, "1", "2", "3", "4", "d/5") == ["1", "2", "3", "  3", " 4", "d/5", "5"]


def test_changes_are_shown_and_rendered() -> None:
    template = make_template("convert {x} {x.}.png > '{#:03d}.log'", ["x", "#"])
    assert shown(template, ["a b.jpg", "7"], task=1, attempt=1, campaign=1) == "convert 'a b.jpg' 'a b'.png > '007.log'"
    assert render("fit-{m:.1f}-{#}", ["m", "#"], "name")(["2", "3"]) == "fit-2.0-3"
    with pytest.raises(UsageError, match="'b' cannot be the value"):
        render("fit-{m:.1f}", ["m"], "name")(["b"])


def test_shells_that_read_again_are_guarded_with_changes_too() -> None:
    check = checker(make_template("sh -c 'echo {x/}'", ["x"]))
    assert check is not None
    check(["$(rm)/a"])
    with pytest.raises(UsageError, match=r"cannot be the value of \{x/\}"):
        check(["a/$(rm)"])
    with pytest.raises(UsageError, match="here-document"):
        make_template("cat <<E\n{x:03d}\nE", ["x"])
    assert printed("echo $(({x:d} + 1))", ["x"], "7") == "8\n"


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20), min_size=1, max_size=4
    )
)
def test_parts_reach_the_program_as_they_are(values: list[str]) -> None:
    fields = [f"f{number}" for number in range(len(values))]
    command = "printf '%s\\0' " + " ".join(f'"{{{field}{change}}}"' for field in fields for change in PATHS)
    expected = [value if not change else changer("", change)(value) for value in values for change in PATHS]
    assert printed(command, fields, *values).split("\0")[:-1] == expected


@given(st.text(alphabet="{}$'\"`#%/.:0ab3dfs<>= \n1x"), st.booleans())
def test_any_command_makes_a_template_or_a_usage_error(command: str, shell: bool) -> None:
    try:
        template = make_template(command if shell else [command], ["x", "a", "#"])
        expand(template, ["1", "2.5", "3"], task=1, attempt=1, campaign=1)
    except UsageError:
        return
    shown(template, ["1", "2.5", "3"], task=1, attempt=1, campaign=1)
