"""HTCondor: a job on N nodes is a cluster of N jobs in the vanilla universe, so that any pool can run it.

With ``condor-parallel://`` it is one job of the parallel universe, on a pool that has a dedicated scheduler.
"""

import re
from collections.abc import Sequence

import msgspec
from msgspec import Struct

from pilotmtc.errors import AdaptorError, StatusUnavailable
from pilotmtc_adaptors._common import foreign, not_submitted, text_of, unknown, user_name
from pilotmtc_adaptors._dialect import FINAL, Call, Conversation, JobRequest, JobState, Status
from pilotmtc_adaptors._script import BATCH_FIELDS
from pilotmtc_adaptors.condor.records import (
    ATTRIBUTES,
    by_cluster,
    cluster_record,
    is_whole,
    parse_jobs,
    rejected_request,
)
from pilotmtc_adaptors.condor.submit import submit_description

_MAPS = BATCH_FIELDS | {"file_transfer", "exclusive"}  # the last is refused in words of its own
_ID = re.compile(r"[0-9]{1,12}", re.ASCII)
_ID_IS = "the number of an HTCondor cluster"
_SUBMITTED = re.compile(r"^([0-9]+)\.[0-9]+ - [0-9]+\.[0-9]+\s*$", re.ASCII | re.MULTILINE)
_UNREACHABLE = re.compile(
    r"can't find address|failed to connect|communication error|unable to connect|timed? ?out",
    re.IGNORECASE,
)
_CUT_OFF = re.compile(r"failed to commit|failed to end|qmgmt error|lost connection", re.IGNORECASE)
_STATIC = 'SlotType =!= "Dynamic"'
_HISTORY_JOBS = "50000"  # how many past jobs are searched for a name


class _Condor(Struct, frozen=True):
    """The dialect for one of the universes."""

    schemes: tuple[str, ...]
    parallel: bool = False
    maps: frozenset[str] = _MAPS

    def submit(self, request: JobRequest) -> Conversation[str]:
        """Return the cluster's number."""
        description = submit_description(request, parallel=self.parallel)
        said = yield Call(("condor_submit", "-terse", "-"), stdin=description)
        match = _SUBMITTED.search(said.stdout)
        if said.returncode == 0 and match:
            return match[1]
        raise not_submitted(said, "HTCondor", "condor_submit", cut_off=_CUT_OFF, unreachable=_UNREACHABLE)

    def status(self, ids: Sequence[str]) -> Conversation[dict[str, Status]]:
        """Return a record or an error for each id: one call for jobs in the queue, one for jobs that have left it."""
        answers: dict[str, Status] = {**foreign(ids, _ID, _ID_IS)}
        asked = [each for each in ids if each not in answers]
        if not asked:
            return answers
        said = yield Call(("condor_q", "-json", "-attributes", ATTRIBUTES, *asked))
        if said.returncode:
            raise StatusUnavailable(f"HTCondor's queue cannot be asked: {text_of(said)}")
        clusters = by_cluster(parse_jobs(said.stdout))
        left = [each for each in asked if each not in clusters or not is_whole(clusters[each])]
        trouble = ""
        if left:
            said = yield Call(("condor_history", "-json", "-attributes", ATTRIBUTES, *left), timeout_s=120)
            if said.returncode:
                trouble = f"HTCondor's history cannot be read: {text_of(said)}"
            else:
                for each, jobs in by_cluster(parse_jobs(said.stdout)).items():
                    clusters[each] = {**jobs, **clusters.get(each, {})}
        too_large: dict[tuple[tuple[str, int], ...], str] = {(): ""}
        for each in asked:
            record = cluster_record(each, clusters[each]) if clusters.get(each) else None
            if record is not None and record.state is JobState.PENDING:
                asks = rejected_request(clusters[each])
                if asks not in too_large:
                    too_large[asks] = yield from _too_large(asks)
                record = msgspec.structs.replace(record, reason=too_large[asks] or record.reason)
            if record is not None and not (trouble and record.state in FINAL and each in left):
                answers[each] = record
            elif trouble:
                answers[each] = StatusUnavailable(trouble)
            else:
                answers[each] = unknown("HTCondor", each)
        return answers

    def cancel(self, ids: Sequence[str]) -> Conversation[dict[str, AdaptorError]]:
        """Return the errors by id."""
        errors: dict[str, AdaptorError] = {**foreign(ids, _ID, _ID_IS)}
        asked = [each for each in ids if each not in errors]
        if not asked:
            return errors
        said = yield Call(("condor_rm", *asked))
        if said.returncode == 0 and "no jobs in the queue" not in said.stdout + said.stderr:
            return errors
        # It says the same about a job that has ended, one that never was, and one of another user.
        for each, found in (yield from self.status(asked)).items():
            if isinstance(found, AdaptorError):
                errors[each] = found
            elif found.state not in FINAL:
                errors[each] = AdaptorError(f"HTCondor did not remove job {each}: {text_of(said)}")
        return errors

    def find(self, name: str) -> Conversation[tuple[str, ...]]:
        """Return the clusters of this user's jobs of that name, the newest last."""
        if '"' in name or "\\" in name or not name.isprintable():
            return ()  # no job can have it
        user = yield from user_name()
        constraint = f'JobBatchName == "{name}" && Owner == "{user}"'
        found = yield from _clusters("condor_q", constraint)
        found |= yield from _clusters("condor_history", constraint, "-scanlimit", _HISTORY_JOBS)
        return _in_order(found)

    def jobs(self) -> Conversation[tuple[str, ...]]:
        """Return the clusters of this user's jobs that are not over."""
        user = yield from user_name()
        constraint = f'Owner == "{user}" && JobStatus =!= 3 && JobStatus =!= 4'
        found = yield from _clusters("condor_q", constraint)
        return _in_order(found)


def _too_large(asks: Sequence[tuple[str, int]]) -> Conversation[str]:
    """Return why no slot will ever match; empty if one may. HTCondor itself only says that none has matched so far."""
    # TotalSlot* is what a slot had before it was divided.
    large = " && ".join(f"TotalSlot{name} >= {number}" for name, number in asks)
    found = []
    for constraint in (f"{_STATIC} && {large}", _STATIC):
        said = yield Call(("condor_status", "-limit", "1", "-af", "Name", "-constraint", constraint), required=False)
        found.append(said.returncode == 0 and bool(said.stdout.strip()))
        if said.returncode or found[0]:
            return ""  # or the pool cannot be asked, which does not mean never
    size = ", ".join(f"{name} >= {number}" for name, number in asks)
    return f"Can Never Run: no machine of the pool has a slot with {size}" if found[1] else ""


vanilla = _Condor(("condor", "htcondor"))
parallel = _Condor(("condor-parallel",), parallel=True)


def _clusters(command: str, constraint: str, *more: str) -> Conversation[set[str]]:
    said = yield Call((command, "-json", "-attributes", "ClusterId", *more, "-constraint", constraint), timeout_s=120)
    if said.returncode:
        raise StatusUnavailable(f"{command} gave no answer: {text_of(said)}")
    return set(by_cluster(parse_jobs(said.stdout)))


def _in_order(ids: set[str]) -> tuple[str, ...]:
    return tuple(sorted(ids, key=int))
