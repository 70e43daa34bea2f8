"""JSON objects that tasks print."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import json

from pilotmtc.errors import UsageError
from pilotmtc.model import CampaignId, TaskId
from pilotmtc.session.look.printed import LARGEST_BYTES, printed
from pilotmtc.session.look.results import TaskResult, printed_by
from pilotmtc.states import TaskState


@pytest.mark.parametrize(
    ("stdout", "values", "error"),
    [
        (b"", {}, ""),
        (b" \n\n", {}, ""),
        (b'{"a": 1.50, "b": "x"}\n', {"a": b"1.50", "b": b'"x"'}, ""),
        (b'{"a": 1}\r\n\n{"a": 2, "c": null}', {"a": b"2", "c": b"null"}, ""),
        (b'{\n "a": {"b":\n [1]}\n}\n', {"a": b'{"b":[1]}'}, ""),
        (b'{"a": [1,  2]}', {"a": b"[1,  2]"}, ""),
        (b'epoch 1\n{"a": 1}\nepoch 2\n', {"a": b"1"}, "line 1 is not JSON: 'epoch 1'"),
        (b'{"a": 1}\n\n[1, 2]\n', {"a": b"1"}, "line 3 is not a JSON object: '[1, 2]'"),
        (b'{"a": NaN}', {}, "line 1 is not JSON: '{\"a\": NaN}'"),
        (b'{"a": [1,}', {}, "line 1 is not JSON: '{\"a\": [1,}'"),
        (b'{"a": "\xff"}', {}, 'line 1 is not JSON: \'{"a": "\ufffd"}\''),
        (b"x" * 100, {}, f"line 1 is not JSON: '{'x' * 60}...'"),
        (b"[" * 5000, {}, f"line 1 is not JSON: '{'[' * 60}...'"),
    ],
)
def test_objects_are_found_and_other_lines_named(stdout: bytes, values: dict[str, bytes], error: str) -> None:
    found = printed(stdout)
    assert ({key: bytes(value) for key, value in found.values.items()}, found.error) == (values, error)


@given(st.binary(max_size=40) | st.text(alphabet='{}[]":,a1 \n.e-tru').map(str.encode))
def test_any_output_is_an_object_or_a_named_line(stdout: bytes) -> None:
    found = printed(stdout)
    assert found.error or not stdout.strip() or isinstance(found.values, dict)
    for value in found.values.values():
        json.decode(value)
        assert b"\n" not in bytes(value)


def a_result(stdout: bytes, size: int | None = None) -> TaskResult:
    whole = len(stdout) if size is None else size
    return TaskResult(TaskId(7), CampaignId(1), None, (), {}, TaskState.DONE, stdout=stdout, stdout_bytes=whole)


def test_results_have_it_as_python_values() -> None:
    assert a_result(b'{"a": 1.5}\n{"b": [true]}\n').json == {"a": 1.5, "b": [True]}
    with pytest.raises(UsageError, match="stdout of task 7: line 1 is not JSON: 'oh'"):
        _ = a_result(b"oh\n").json


def test_what_is_too_large_is_not_read() -> None:
    assert "more than" in printed_by(a_result(b"{}", LARGEST_BYTES + 1)).error
