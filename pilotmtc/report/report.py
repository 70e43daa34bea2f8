"""`Report`: the numbers, and the attempts that they were made of."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from pilotmtc.errors import UsageError
from pilotmtc.report.measure.make import Past, make_summary
from pilotmtc.report.records import Summary
from pilotmtc.states import TaskState


class Row(NamedTuple):
    """An attempt as tables have it; `started_at` and `ended_at` are by the clock of the store's host."""

    task: int
    attempt: int
    campaign: int
    name: str
    tags: str
    state: str
    cause: str
    code: int
    pilot: int
    node: str
    slot: str
    cores: int
    started_at: float
    ended_at: float
    elapsed_s: float
    cpu_s: float
    memory_bytes: int
    memory_asked_bytes: int


class Report:
    """A report on campaigns.

    Attributes
    ----------
    summary
        All numbers.
    past
        What they were made of.
    """

    def __init__(self, past: Past) -> None:
        self.past = past
        self.summary: Summary = make_summary(past)

    def rows(self) -> Iterator[Row]:
        """Yield the attempts of the report's campaigns."""
        some, starts = self.past.attempts, self.past.starts
        wanted = frozenset(self.summary.campaigns)
        cores: dict[tuple[int, int], int] = {}
        for at in range(len(some)):
            if some.campaign[at] not in wanted:
                continue
            need = some.resources[some.resources_id[at]]
            place = (some.node[at], some.slot[at])
            if place not in cores:
                cores[place] = some.cores(at)
            yield Row(
                some.task[at], some.attempt[at], some.campaign[at], some.texts[some.name[at]],
                some.texts[some.tags[at]], TaskState(some.state[at]).name, some.cause_name(at), some.code[at],
                some.pilot[at], some.texts[some.node[at]], some.texts[some.slot[at]], cores[place], starts[at],
                starts[at] + some.elapsed_s[at], some.elapsed_s[at], some.cpu_s[at], some.memory_bytes[at],
                need.memory_bytes,
            )  # fmt: skip

    def to_pandas(self) -> Any:
        """Return the attempts of the report's campaigns as a `pandas.DataFrame`, times as timestamps in UTC.

        Raises
        ------
        UsageError
            If pandas is not installed.
        """
        try:
            import pandas
        except ImportError as error:
            raise UsageError("to_pandas() needs pandas: pip install pandas") from error
        frame = pandas.DataFrame(self.rows(), columns=Row._fields)
        for name in ("started_at", "ended_at"):
            frame[name] = pandas.to_datetime(frame[name], unit="s", utc=True)
        return frame
