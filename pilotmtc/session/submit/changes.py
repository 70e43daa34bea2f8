"""Requests that let tasks run again, or run something else: the store is told first what their programs are now."""

from msgspec.structs import replace

from pilotmtc.model import Template
from pilotmtc.protocol.client.tasks import Edit, Retry
from pilotmtc.protocol.records import Filter
from pilotmtc.session.link import StoreLink
from pilotmtc.session.look.select import NewValues, as_edit
from pilotmtc.session.submit.programs import note_programs
from pilotmtc.session.submit.sending import new_key
from pilotmtc.states import TaskState

_HAVE_RUN = (TaskState.DONE, TaskState.FAILED)


def retry_request(link: StoreLink, select: Filter) -> Retry:
    """Return the request that retries tasks which have not ended well."""
    note_programs(link, select)
    return Retry(new_key(), select)


def rerun_request(link: StoreLink, select: Filter, *, dependents: bool, changed: bool) -> Retry:
    """Return the request that runs tasks again that are over; see `Session.rerun`."""
    note_programs(link, select, changed=changed)
    select = as_rerun(select, changed=changed)
    return Retry(new_key(), select, done=True, dependents=dependents or changed, changed=changed)


def as_rerun(select: Filter, *, changed: bool) -> Filter:
    """Return the filter for tasks to run again: of changed programs, those that have run."""
    return replace(select, states=_HAVE_RUN) if changed and select.states is None else select


def edit_request(link: StoreLink, select: Filter, new: NewValues) -> Edit:
    """Return the request that changes tasks."""
    request = as_edit(new_key(), select, **new)
    if request.command is not None or request.watch is not None:
        words = request.command or ()
        note_programs(link, select, new=Template(words, request.shell, watch=request.watch or ()))
    return request
