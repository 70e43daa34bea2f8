"""What a client does to call functions, without the executor."""

import secrets
from collections.abc import Callable, Sequence
from typing import Any

import cloudpickle  # type: ignore[import-untyped]

from pilotmtc import pickled
from pilotmtc.model import INLINE_BYTES, After, Call, Function, Resources, TaskId, TaskRow, Template, Value
from pilotmtc.protocol.client.campaigns import Submit
from pilotmtc.protocol.client.tasks import MAX_RETURNED, GetReturned, ReturnedCall
from pilotmtc.protocol.values import PART_BYTES, GetValue, PutValue
from tests.integration.agent_support import Site
from tests.integration.function_support import HERE, dump_args
from tests.support import wait_until


class Calls:
    """A store, and what a client does to call functions."""

    def __init__(self, site: Site) -> None:
        self.site = site

    def put(self, data: bytes) -> str:
        """Put a value into the store; return its digest."""
        digest = pickled.digest_of([data])
        for at in range(0, len(data), PART_BYTES):
            status = self.site.client.call(PutValue(digest, at, len(data), data[at : at + PART_BYTES]))
        assert status.received == len(data)
        return digest

    def value(self, data: bytes) -> Value:
        """Return a value as a call has it."""
        return Value(data) if len(data) <= INLINE_BYTES else Value(b"", self.put(data), len(data))

    def call(self, call: Sequence[object] | Call) -> Call:
        """Return a call, which may be given by its arguments alone."""
        return call if isinstance(call, Call) else Call(self.value(dump_args(*call)))

    def submit(
        self, function: Callable[..., object], *calls: Sequence[object] | Call, resources: Resources = Resources(),  # noqa: B008
        initializer: Callable[[], object] | None = None, python: str = "", gather: bool = False, **template: Any,
    ) -> list[TaskId]:  # fmt: skip
        """Submit calls of a function, each with its arguments; return their tasks."""
        setup = self.put(cloudpickle.dumps((initializer, ()))) if initializer is not None else ""
        made = Function(function.__name__, self.put(cloudpickle.dumps(function)), setup, python, HERE, gather)
        todo = Template((f"{made.name}({{args}})",), fields=("args",), function=made, **template)
        rows = tuple(
            TaskRow(0, 0, (str(number),), after=tuple(After(task) for task in call.inputs), call=call)
            for number, call in enumerate(map(self.call, calls))
        )
        key = secrets.token_hex(8)
        done = self.site.client.call(Submit(key, 0, "calls", (todo,), (resources,), rows, True))
        return [TaskId(done.first + number) for number in range(len(rows))]

    def returned(self, tasks: Sequence[TaskId]) -> list[ReturnedCall]:
        """Return how calls have ended, once all have."""
        found: dict[TaskId, ReturnedCall] = {}

        def all_over() -> bool:
            for at in range(0, len(tasks), MAX_RETURNED):
                rows = self.site.client.call(GetReturned(tuple(tasks[at : at + MAX_RETURNED]))).rows
                found.update({row.task: row for row in rows})
            return len(found) == len(tasks)

        wait_until(all_over, 90.0, on_timeout=self.site.counts)
        return [found[task] for task in tasks]

    def values(self, tasks: Sequence[TaskId]) -> list[Any]:
        """Return what calls have returned."""
        return [self.load(row) for row in self.returned(tasks)]

    def load(self, row: ReturnedCall) -> Any:
        """Return what a call has returned, or the exception that it has raised."""
        assert row.value is not None, row
        data = row.value.data
        while len(data) < row.value.size:
            data += self.site.client.call(GetValue(row.value.digest, len(data))).data
        return pickled.load_value(bytearray(data)) if row.exit_code == 0 else pickled.load_exception(data)
