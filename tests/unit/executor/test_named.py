"""Functions that are named by a text: found, and compared with the rows they will be given."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pilotmtc.errors import UsageError
from pilotmtc.executor.named import Parameters, find_function


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory of its own, whose modules are forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PWD", str(tmp_path))
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def wrote(here: Path, name: str, text: str) -> None:
    (here / name).write_text(text)


def refused(words: str) -> str:
    with pytest.raises(UsageError) as caught:
        find_function(words)
    return str(caught.value)


def test_function_of_the_current_directory(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wrote(
        here, "own_work.py", "print('hello')\ndef simulate(x): return 2 * x\nclass Model:\n    def fit(x): return -x\n"
    )
    assert find_function("own_work:simulate")(3) == 6
    assert find_function("own_work:Model.fit")(3) == -3
    assert find_function("math:sqrt")(9.0) == 3.0
    assert sys.path[-1] == str(here), "its files are behind all libraries"
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "hello\n"), "stdout is for data"


def test_function_of_a_package(here: Path) -> None:
    (here / "own_parts" / "inner").mkdir(parents=True)
    wrote(here, "own_parts/__init__.py", "")
    wrote(here, "own_parts/inner/__init__.py", "from own_parts.deep import f\n")
    wrote(here, "own_parts/deep.py", "def f(x): return x + 1\n")
    assert find_function("own_parts.inner:f")(1) == 2
    assert "there is no module 'own_parts.nix'" in refused("own_parts.nix:f")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("own_work", "'own_work' names no function: write MODULE:FUNCTION"),
        ("own_work:", "names no function"),
        (":f", "names no function"),
        ("own_work.py:f", "is a file: name its module, as in own_work:f"),
        ("lib/own_work.py:f", "is a file: cd lib, and name its module, as in own_work:f"),
        ("..own_work:f", "is relative"),
        ("own_wrok:f", "there is no module 'own_wrok', neither in {here} nor installed: did you mean 'own_work'?"),
        ("own_work:simulat", "own_work has no 'simulat': did you mean 'simulate'?"),
        ("own_work:zzz", "own_work has no 'zzz': there are other, simulate, waits, join"),
        ("own_work:os.getpit", "own_work:os has no 'getpit': did you mean 'getpid'?"),
        ("own_work:number", "own_work:number is 3, which cannot be called: there are other, simulate, waits, join"),
        ("own_work:waits", "own_work:waits is a coroutine function"),
        ("own_empty:f", "own_empty has no 'f': there are none here"),
        ("queue:f", "the module 'queue' is {queue}, not {here}/queue.py: rename that file"),
    ],
)
def test_what_is_no_function_is_named(here: Path, words: str, said: str) -> None:
    import queue

    functions = "def simulate(x): ...\ndef other(): ...\nasync def waits(x): ...\n"
    wrote(here, "own_work.py", f"import os\nfrom os.path import join\nnumber = 3\n{functions}")
    wrote(here, "own_empty.py", "")
    wrote(here, "queue.py", "def f(x): ...\n")
    assert said.format(here=here, queue=queue.__file__) in refused(words)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("import own_lacking", ["line 1, in <module>", "ModuleNotFoundError: No module named 'own_lacking'"]),
        ("def f(x):\n    retrun x y\n", ["own_bad.py", "line 2", "retrun x y", "SyntaxError: invalid syntax"]),
        ("def g():\n    return 1 / 0\ng()\n", ["line 3, in <module>", "line 2, in g", "ZeroDivisionError"]),
        ("import sys\nsys.exit(3)\n", ["line 2, in <module>", "SystemExit: 3"]),
    ],
)
def test_module_that_cannot_be_imported_is_shown_with_its_own_lines(here: Path, text: str, said: list[str]) -> None:
    wrote(here, "own_bad.py", text)
    words = refused("own_bad:f")
    assert words.startswith("own_bad cannot be imported:\n    ")
    assert [word for word in said if word not in words] == []
    assert "importlib" not in words
    assert "named.py" not in words


# -- what a function takes --------------------------------------------------------------------------------------


def plain(mass: float, seed: int = 0) -> None: ...
def texts(name: str, label: "str", mass: float = 0.0) -> None: ...
def places(first: str, /, *, second: int) -> None: ...
def anything(*args: object, **more: object) -> None: ...
def nothing() -> None: ...


@pytest.mark.parametrize(
    ("function", "fields"),
    [
        (plain, ["mass"]), (plain, ["seed", "mass"]), (plain, ["1"]), (plain, ["1", "seed"]), (plain, ["1", "2"]),
        (places, ["1", "second"]), (anything, ["1", "2", "3", "x"]), (anything, []), (nothing, []),
        (min, ["1", "2"]), (int, ["1"]),
    ],
)  # fmt: skip
def test_rows_fit(function: Callable[..., Any], fields: list[str]) -> None:
    assert Parameters(function, "f", fields).places == sum(field.isdecimal() for field in fields)


@pytest.mark.parametrize(
    ("function", "fields", "said"),
    [
        (plain, ["mass", "sede"], "f takes no parameter 'sede': did you mean 'seed'?"),
        (plain, ["mass", "q"], "f takes no parameter 'q': it takes mass, seed=0, and the rows have mass, q"),
        (plain, ["seed"], "f needs mass, which the rows do not have: it takes mass, seed=0, and the rows have seed"),
        (plain, ["1", "2", "3"], "a row has 3 values without a name, and f takes 2 of these"),
        (plain, ["1", "mass"], "'mass' is given by name, and as a value without one"),
        (places, ["first", "second"], "f takes 'first' without its name only: give its values behind ':::'"),
        (
            places,
            ["1"],
            "f needs second, which the rows do not have: it takes first, second, and the rows have no names",
        ),
        (nothing, ["x"], "f takes no parameter 'x': it takes no parameters, and the rows have x"),
        (nothing, ["1"], "a row has 1 value without a name, and f takes none of these"),
    ],
)
def test_rows_that_do_not_fit_are_named(function: Callable[..., Any], fields: list[str], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        Parameters(function, "f", fields)
    assert said in str(caught.value)


def test_parameters_that_are_texts() -> None:
    assert Parameters(texts, "f", ["name", "label", "mass"]).texts == {"name", "label"}
    assert Parameters(texts, "f", ["1", "2"]).texts == {"1", "2"}
    assert Parameters(places, "f", ["1", "second"]).texts == {"1"}
    assert Parameters(anything, "f", ["1", "x"]).texts == set()
