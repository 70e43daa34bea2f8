"""Which call of now is which one of then, also if the function has changed meanwhile."""

import hashlib
import logging
from typing import Any

import pytest

from pilotmtc.executor.engine.earlier import EarlierCalls
from pilotmtc.executor.pickling.pickling import Blob, PickledCall, PickledFunction
from pilotmtc.model import CampaignId, TaskId, Value
from pilotmtc.protocol.client.tasks import KnownCall, KnownCalls
from pilotmtc.states import TaskState

ARGS = b"args"
DIGEST = hashlib.sha256(ARGS).digest()


class Past:
    """A store that knows these calls of ``work(args)``, by their states and the code that they ran."""

    def __init__(self, *calls: tuple[TaskState, str]) -> None:
        self._calls = [
            KnownCall(TaskId(number), state, "work", code, DIGEST) for number, (state, code) in enumerate(calls, 1)
        ]

    def call(self, _request: object) -> Any:
        return KnownCalls(tuple(self._calls))


def earlier(*calls: tuple[TaskState, str]) -> EarlierCalls:
    return EarlierCalls(Past(*calls), CampaignId(7))  # type: ignore[arg-type]  # all that is asked of it


def work(code: str, *, fixed: bool = True) -> PickledFunction:
    return PickledFunction("work", Blob(code, (), 0), fixed)


CALL = PickledCall(Value(ARGS, size=len(ARGS)))


def taken(past: EarlierCalls, code: str, *, fixed: bool = True) -> int:
    known = past.take(work(code, fixed=fixed), CALL)
    return 0 if known is None else known.task


def test_result_of_an_unchanged_function_is_taken_without_a_word(caplog: pytest.LogCaptureFixture) -> None:
    past = earlier((TaskState.DONE, "v1"), (TaskState.FAILED, "v1"))
    assert [taken(past, "v1") for _ in range(3)] == [1, 2, 0]
    assert (past.left, caplog.messages) == (0, [])


def test_result_of_a_changed_function_is_taken_with_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    past = earlier((TaskState.DONE, "v1"), (TaskState.RUNNING, "v1"))
    with caplog.at_level(logging.WARNING):
        assert [taken(past, "v2") for _ in range(2)] == [1, 2]
    (words,) = caplog.messages
    assert words.startswith("work has changed, or was moved in its file, since campaign 7 was made")
    assert "do not resume, or use another name" in words


def test_call_that_failed_is_made_anew_with_the_changed_function() -> None:
    past = earlier((TaskState.FAILED, "v1"))
    assert (taken(past, "v2"), past.left) == (0, 0)


def test_result_of_the_present_version_comes_first() -> None:
    past = earlier((TaskState.FAILED, "v1"), (TaskState.DONE, "v1"), (TaskState.DONE, "v2"))
    assert [taken(past, "v2") for _ in range(2)] == [3, 2]


def test_function_that_its_name_does_not_tell_is_found_by_its_code(caplog: pytest.LogCaptureFixture) -> None:
    past = earlier((TaskState.DONE, "v1"))
    assert [taken(past, code, fixed=False) for code in ("v2", "v1")] == [0, 1]
    assert caplog.messages == []
