"""Sending a pool's calls to the store: at once if nothing is under way, else what has come meanwhile together."""

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from pilotmtc.errors import ConfigError, PilotMTCError, SchemaMismatch, StoreError, UsageError
from pilotmtc.executor.engine.ledger import Ledger, Row, Target, end_all
from pilotmtc.executor.engine.values import Values
from pilotmtc.model import After, Call, CampaignId, Program, TaskId, TaskRow
from pilotmtc.protocol.base import Request
from pilotmtc.protocol.client.campaigns import CALLS, GetCampaigns, ReopenCampaign, ShareCampaign, Submit
from pilotmtc.protocol.client.tasks import Cancel, Retry
from pilotmtc.protocol.records import Filter
from pilotmtc.session.link import StoreLink
from pilotmtc.session.submit.sending import new_key

T = TypeVar("T")
log = logging.getLogger(__name__)
_MANY = 5000  # tasks in a message
_AGAIN_S = 1.0
_SAY_EVERY_S = 60.0
_LAST_S = 10.0


class Sender:
    """Sends the calls of one pool, which become one campaign; `run` is for a thread of its own.

    Parameters
    ----------
    memo
        Have the store take the results of the same calls that it knows.
    program
        Returns what was seen of the files that the calls are watched for.
    """

    def __init__(
        self, link: StoreLink, ledger: Ledger, values: Values, *, name: str, shared: bool, memo: bool,
        program: Callable[[], Program | None],
    ) -> None:  # fmt: skip
        self._link = link
        self._ledger = ledger
        self._values = values
        self._name = name
        self._shared = shared
        self._memo = memo
        self._program = program
        self._told: Program | None = None
        self._key = f"{CALLS}{new_key()}"
        self._offset = 0
        self._campaign: CampaignId | None = None

    def begin(self) -> CampaignId:
        """Make the campaign, and return it."""
        self._campaign = self._link.call(self._message(())).campaign
        return self._campaign

    def resume(self) -> CampaignId | None:
        """Take the newest campaign of the same name that another program has left, and return it, if there is one."""
        found = [
            campaign
            for campaign in self._link.call(GetCampaigns()).campaigns
            if campaign.name == self._name and campaign.key.startswith(CALLS)
        ]
        if not found:
            return None
        answer = self._link.call(ReopenCampaign(found[0].id, self._key))
        if self._shared and found[0].own_pilots:
            self._link.call(ShareCampaign(answer.campaign))
        self._offset = answer.received
        self._campaign = answer.campaign
        return answer.campaign

    def run(self, tell_over: Callable[[Iterable[TaskId]], None], on_sent: Callable[[], None]) -> None:
        """Send until there is nothing more to come.

        Parameters
        ----------
        tell_over
            Is told of tasks that are over already.
        on_sent
            Is told that the store has new calls.
        """
        while (work := self._ledger.take()) is not None:
            for at in range(0, len(work.cancel), _MANY):
                self._link.call(Cancel(new_key(), Filter(ids=work.cancel[at : at + _MANY])))
            for at in range(0, len(work.retry), _MANY):
                some = work.retry[at : at + _MANY]
                self._link.call(Retry(new_key(), Filter(ids=some)))
                tell_over(some)  # of which some may be over by now
            if work.rows:
                self._send(work.rows, tell_over)
                self._ledger.settled()
                on_sent()
            del work  # futures that nobody has any more are not to wait here for the next call

    def seal(self, *, cancel: bool) -> None:
        """Say that no more calls come; with `cancel`, that the others are not wanted any more."""
        last: list[Request[Any]] = [Submit(self._key, self._offset, self._name, last=True)]
        if cancel:
            last.append(Cancel(new_key(), Filter(campaign=self._campaign)))
        try:
            for answer in [self._link.send(request) for request in last]:
                answer.result(_LAST_S)
        except (PilotMTCError, TimeoutError) as error:  # as with a client that dies: nothing is lost
            log.warning("campaign %s is not closed in the store: %s", self._campaign, error)

    def _send(self, rows: Sequence[Row], tell_over: Callable[[Iterable[TaskId]], None]) -> None:
        try:
            self._put_values(rows)
            first = self._patiently(lambda: self._link.call(self._message(rows))).first
        except UsageError as error:
            if len(rows) == 1:
                end_all(self._ledger.refused(rows, error))
                return
            # One of them cannot be: the others shall not suffer from it.
            half = len(rows) // 2
            self._send(rows[:half], tell_over)
            self._send(rows[half:], tell_over)
        except (SchemaMismatch, ConfigError) as error:
            end_all(self._ledger.refused(rows, error))
        else:
            self._offset += len(rows)
            if not first:
                raise StoreError(f"the store does not say which tasks of campaign {self._campaign} are new")
            tell_over(self._ledger.sent(rows, first))

    def _put_values(self, rows: Iterable[Row]) -> None:
        blobs = {blob.digest: blob for row in rows for blob in (*row.target.blobs, row.pickled.blob) if blob}
        self._patiently(lambda: self._values.put(tuple(blobs.values()), self._campaign))

    def _patiently(self, do: Callable[[], T]) -> T:
        """Return what `do` returns, once the store can do it: its disk may be full for a while."""
        said_at = -_SAY_EVERY_S
        while True:
            try:
                return do()
            except SchemaMismatch:
                raise
            except StoreError as error:
                if self._ledger.broken is not None:
                    raise
                if time.monotonic() - said_at >= _SAY_EVERY_S:
                    said_at = time.monotonic()
                    log.warning("campaign %s: %s; trying again", self._campaign, error)
            time.sleep(_AGAIN_S)

    def _message(self, rows: Sequence[Row]) -> Submit:
        program = self._program()
        news, self._told = None if program is self._told else program, program
        targets: dict[int, tuple[int, Target]] = {}
        found = []
        for row in rows:
            target, call = row.target, row.pickled
            number = targets.setdefault(id(target), (len(targets), target))[0]
            setup = target.setup
            inputs = tuple([need.task_id for need in call.inputs if need.task_id is not None])
            after = (*setup.after, *map(After, inputs)) if inputs else setup.after
            sent = Call(call.args, inputs, call.values, identity=call.identity)
            found.append(
                TaskRow(number, number, (row.future.text,), setup.priority, setup.name, setup.tags, after, sent)
            )
        return Submit(
            key=self._key,
            offset=self._offset,
            name=self._name,
            templates=tuple([target.template for _, target in targets.values()]),
            resources=tuple([target.setup.resources for _, target in targets.values()]),
            rows=tuple(found),
            own_pilots=not self._shared,
            program=news,
            memo=self._memo,
        )
