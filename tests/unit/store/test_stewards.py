"""What becomes of a steward's messages when it ends badly."""

import resource
import select
import time
from pathlib import Path

import pytest

from pilotmtc.store.server import stewards
from pilotmtc.store.server.stewards import Stewards
from pilotmtc.system import open_files


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A steward of the test's own."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(stewards, "MODULE", "odd_steward")
    return tmp_path / "odd_steward.py"


def ended(program: str, module: Path) -> tuple[str, str]:
    """Run a steward; return what `reap` says."""
    module.write_text(program)
    with select.epoll() as epoll:
        children = Stewards(epoll)
        steward = children.start("none://localhost/", time.monotonic())
        with steward.stream, steward.control:
            assert epoll.poll(60)
            return children.reap(steward.pidfd)


@pytest.mark.parametrize(
    ("program", "said"),
    [
        ("raise RuntimeError('no such thing')", "asking it ended with 1: RuntimeError: no such thing"),
        ("import sys; sys.exit('')", "asking it ended with 1: it said nothing"),
        (
            "import sys; sys.exit('2026-11-30 07:26:52,114 17 ERROR asking pbs: cannot run qstat')",
            "asking it ended with 1: asking pbs: cannot run qstat",
        ),
        ("import sys; sys.stderr.write('all is well')", ""),
    ],
)
def test_last_words_of_a_steward_are_the_trouble_and_all_are_in_the_log(
    program: str, said: str, module: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert ended(program, module) == ("none://localhost/", said)
    if "well" in program:
        assert "all is well" in capfd.readouterr().err


def test_a_steward_may_have_as_many_open_files_as_the_server_had(module: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The scheduler's commands hand that limit on to jobs."""
    monkeypatch.setattr(open_files, "_found", [])
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (200, before[1]))
    try:
        open_files.raise_limit()
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (before[1], before[1])
        _, said = ended("import resource, sys; sys.exit(str(resource.getrlimit(resource.RLIMIT_NOFILE)))", module)
        assert said.endswith(f"(200, {before[1]})")
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (before[1], before[1])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
