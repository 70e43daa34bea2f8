"""Fakes of scheduler commands: programs on PATH that answer what was recorded, and tell what they were asked."""

import json
import re
import sys
from pathlib import Path
from typing import TypeVar

import msgspec
import pytest
from msgspec import Struct

from pilotmtc_adaptors._dialect import Call, CallResult, Conversation

T = TypeVar("T")
_RECORDINGS = Path(__file__).with_name("recordings")

# What each fake is. It answers by the last rule that fits its arguments, with that rule's answers one after the other.
_PROGRAM = """#!{python} -I
import fcntl, json, pathlib, re, sys
here = pathlib.Path({directory!r})
arguments = sys.argv[1:]
with open(here / "calls", "a") as calls:
    fcntl.flock(calls, fcntl.LOCK_EX)
    stdin = sys.stdin.buffer.read().decode("utf-8", "surrogateescape")
    calls.write(json.dumps([{name!r}, arguments, stdin]) + "\\n")
    calls.flush()
    rules = json.loads((here / "rules").read_text())
    for number, (name, when, answers) in reversed(list(enumerate(rules))):
        if name == {name!r} and re.search(when, " ".join(arguments)):
            used = here / f"used-{{number}}"
            count = len(used.read_text()) if used.exists() else 0
            used.write_text("x" * (count + 1))
            answer = answers[min(count, len(answers) - 1)]
            break
    else:
        sys.exit(f"{name}: the test has no answer for {{arguments}}")
sys.stdout.buffer.write(answer["stdout"].encode("utf-8", "surrogateescape"))
sys.stdout.flush()
sys.stderr.buffer.write(answer["stderr"].encode("utf-8", "surrogateescape"))
sys.exit(answer["returncode"])
"""


class Answer(Struct, frozen=True):
    """What a command says."""

    stdout: str = ""
    stderr: str = ""
    returncode: int = 0
    command: str = ""


def hold(talk: Conversation[T], *answers: Answer | CallResult) -> tuple[T, list[Call]]:
    """Hold a conversation in which these are the answers; return its outcome and what was asked."""
    calls = [next(talk)]
    for each in answers:
        try:
            calls.append(talk.send(CallResult(each.returncode, each.stdout, each.stderr)))
        except StopIteration as end:
            return end.value, calls
    raise AssertionError(f"one more call than answers: {calls[-1]}")


class Asked(Struct, frozen=True):
    """What a command was asked: its argument vector, program first, and what it read."""

    argv: tuple[str, ...]
    stdin: str


class Fakes:
    """Fake programs in a directory of their own, for PATH."""

    def __init__(self, directory: Path, *programs: str) -> None:
        self._directory = directory
        self._rules: list[tuple[str, str, list[dict[str, object]]]] = []
        self.bin = directory / "bin"
        self.bin.mkdir(parents=True)
        for name in programs:
            program = self.bin / name
            program.write_text(_PROGRAM.format(python=sys.executable, directory=str(directory), name=name))
            program.chmod(0o755)
        self._write()

    def says(self, program: str, *answers: Answer, when: str = "") -> None:
        """Let `program` say `answers`, the last of them again and again, if its arguments fit the expression `when`."""
        re.compile(when)
        self._rules.append((program, when, [msgspec.structs.asdict(each) for each in answers]))
        self._write()

    def asked(self, program: str = "") -> list[Asked]:
        """Return what they were asked so far, by one of them or by all."""
        calls = self._directory / "calls"
        lines = calls.read_text().splitlines() if calls.exists() else []
        found = [(name, arguments, stdin) for name, arguments, stdin in map(json.loads, lines)]
        return [Asked((name, *arguments), stdin) for name, arguments, stdin in found if program in ("", name)]

    def forget(self) -> None:
        """Forget what was asked."""
        (self._directory / "calls").unlink(missing_ok=True)

    def _write(self) -> None:
        (self._directory / "rules").write_text(json.dumps(self._rules))


def recorded(scheduler: str) -> dict[str, Answer]:
    """Return the recordings of a scheduler by name."""
    cases = json.loads((_RECORDINGS / f"{scheduler}.json").read_text())
    return {name: Answer(**case) for name, case in cases.items()}


def make_fakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *programs: str) -> Fakes:
    """Return fakes that are found before anything else on PATH."""
    fakes = Fakes(tmp_path / "fakes", *programs)
    monkeypatch.setenv("PATH", f"{fakes.bin}:/usr/bin:/bin")
    return fakes
