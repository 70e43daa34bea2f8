"""Files that run with the standard library alone repeat a little of others: the copies say the same."""

import os
import subprocess
import sys
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from pilotmtc import boot
from pilotmtc.agent import guard
from pilotmtc.agent.node import marks, ranks
from pilotmtc.resources.slots import core_list
from pilotmtc.store import serve
from pilotmtc.system import processes
from tests.support import wait_until

ROOT = Path(__file__).resolve().parents[3]


def test_numbers_and_names_are_the_same() -> None:
    assert guard._SUBREAPER == processes.SUBREAPER
    assert guard.MARK == serve._AGENTS_MARK
    assert guard._SERVER == marks._SERVER
    assert serve._program() == boot.program("pilotmtc.store.server")


@given(st.sets(st.integers(0, 300), min_size=1))
def test_ranks_read_the_core_lists_that_they_are_given(cores: set[int]) -> None:
    assert ranks.cores_of(core_list(tuple(sorted(cores)))) == sorted(cores)


def test_guard_finds_the_same_descendants() -> None:
    command = ["sh", "-c", "sleep 60 & sleep 60; :"]
    with subprocess.Popen(command, start_new_session=True) as process:
        try:
            wait_until(lambda: len(_below(process.pid)) == 2)
            assert {process.pid, *_below(process.pid)} <= set(guard.descendants())
        finally:
            os.killpg(process.pid, 9)


@given(
    st.lists(st.text(st.characters(exclude_characters="\0")), min_size=1),
    st.dictionaries(st.just("again"), st.integers()),
)
def test_guard_reads_any_command_that_it_is_told(command: list[str], numbers: dict[str, int]) -> None:
    told = guard.instructions(command, **numbers)
    assert (told.isascii(), told.isprintable()) == (True, True)  # it goes through shells and launchers
    assert guard.read_instructions(told) == (command, numbers)


def _below(pid: int) -> list[int]:
    found = [child for thread in processes.threads(pid) for child in processes.children(pid, thread)]
    return found + [each for child in found for each in _below(child)]


def test_both_close_what_was_left_open() -> None:
    program = "import os, sys; {name}.close_inherited(int(sys.argv[1])); print(os.listdir('/proc/self/fd'))"
    listed = []
    for name, module in (("guard", "pilotmtc.agent"), ("serve", "pilotmtc.store")):
        code = f"from {module} import {name}; {program.format(name=name)}"
        kept, other = os.pipe()
        try:
            argv = [sys.executable, "-c", code, str(kept)]
            listed.append(subprocess.check_output(argv, pass_fds=(kept, other), cwd=ROOT, timeout=60, text=True))
        finally:
            os.close(kept)
            os.close(other)
    assert listed[0] == listed[1]
    assert f"'{other}'" not in listed[0]
