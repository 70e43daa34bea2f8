"""Which tasks, and what to change in them, in users' words."""

import difflib
from collections.abc import Iterable, Mapping
from enum import IntEnum
from typing import TypedDict, TypeVar, Unpack

from pilotmtc.campaign.keys import LARGEST
from pilotmtc.errors import UsageError
from pilotmtc.model import CampaignId, PilotId, TaskId
from pilotmtc.session.filtering import FilterError, parse_filter, pointed
from pilotmtc.session.tasks import check_amounts, check_gpus, check_ranks
from pilotmtc.states import Cause, TaskState
from pilotmtc.units import parse_duration, parse_memory
from pilotmtc.wire.messages import Edit, Filter

E = TypeVar("E", bound=IntEnum)


class Selection(TypedDict, total=False):
    """Which tasks: all conditions must hold; none selects all.

    Attributes
    ----------
    ids, campaign, states, pilot
        By number, by campaign, by state (`TaskState` or its name in any case), by the pilot that has or had them.
    names, tags
        One of the names (``*`` and ``?`` are wildcards); all of the tags.
    exit_codes, causes
        One of them, at the last attempt's end.
    filter
        The same and more in one text, as in ``"state:failed mass>3"``: see `pilotmtc.session.filtering`.
    """

    ids: Iterable[int] | None
    campaign: int | None
    states: Iterable[TaskState | str] | None
    names: Iterable[str] | None
    tags: Iterable[str] | None
    pilot: int | None
    exit_codes: Iterable[int] | None
    causes: Iterable[Cause | str] | None
    filter: str | None


class NewValues(TypedDict, total=False):
    """What to change in tasks; the values are as in `TaskOptions`."""

    priority: int | None
    cores: int | None
    ranks: int | None
    ranks_per_node: int | None
    gpus: float | None
    memory: str | int | None
    resources: Mapping[str, float] | None
    time_limit: str | float | None
    expected: str | float | None


def as_filter(**select: Unpack[Selection]) -> Filter:
    """Return the filter that means `select`.

    Raises
    ------
    UsageError
        If there is no such state or cause.
    """
    ids, names, tags = select.get("ids"), select.get("names"), select.get("tags")
    states, causes, exit_codes = select.get("states"), select.get("causes"), select.get("exit_codes")
    campaign, pilot = select.get("campaign"), select.get("pilot")
    found = Filter(
        ids=None if ids is None else tuple([TaskId(id_) for id_ in ids]),
        campaign=None if campaign is None else CampaignId(campaign),
        states=None if states is None else tuple([member(TaskState, state) for state in states]),
        names=None if names is None else tuple(names),
        tags=None if tags is None else tuple(tags),
        pilot=None if pilot is None else PilotId(pilot),
        exit_codes=None if exit_codes is None else tuple(exit_codes),
        causes=None if causes is None else tuple([int(member(Cause, cause)) for cause in causes]),
    )
    text = select.get("filter")
    return found if text is None else _both(found, text)


def _both(found: Filter, text: str) -> Filter:
    """Return the filter that means `found` and what `text` says."""
    try:
        said = parse_filter(text)
    except FilterError as error:
        raise UsageError(pointed(text, error)) from error
    wishes = {}
    for field in found.__struct_fields__:
        one, other = getattr(found, field), getattr(said, field)
        if one and other:
            raise UsageError(f"{text!r} asks for {field.replace('_', ' ')}, which are asked for already: say it once")
        wishes[field] = one if one is not None and one != () else other
    return Filter(**wishes)


def member(kind: type[E], word: E | str) -> E:
    """Return the member of `kind` that `word` names, in any case.

    Raises
    ------
    UsageError
        If there is none; it says which there are.
    """
    if not isinstance(word, str):
        return word
    name = word.upper().replace("-", "_")
    if name in kind.__members__:
        return kind[name]
    close = difflib.get_close_matches(name, kind.__members__, 1)
    hint = f"did you mean {close[0].lower()}?" if close else f"there are {', '.join(kind.__members__).lower()}"
    raise UsageError(f"{word!r} is no {'cause' if kind is Cause else 'state'}: {hint}")


def as_edit(key: str, select: Filter, **new: Unpack[NewValues]) -> Edit:
    """Return the request that changes what `select` selects.

    Raises
    ------
    UsageError
        If nothing is to be changed, or a value cannot be.
    """
    if all(value is None for value in new.values()):
        raise UsageError(
            "nothing to change: give a priority, cores, ranks, gpus, memory, resources, time limit or expected time"
        )
    cores, gpus, memory = new.get("cores"), new.get("gpus"), new.get("memory")
    named, limit, expected = new.get("resources"), new.get("time_limit"), new.get("expected")
    if cores is not None and not 1 <= cores <= LARGEST:
        raise UsageError(f"a task needs {cores} cores: give 1 or more")
    if gpus is not None:
        check_gpus(gpus)
    check_amounts("a task needs", named or {})
    if not -LARGEST <= (new.get("priority") or 0) <= LARGEST:
        raise UsageError(f"priority {new.get('priority')}: give a number from {-LARGEST} to {LARGEST}")
    check_ranks(new.get("ranks"), new.get("ranks_per_node"))
    return Edit(
        key,
        select,
        priority=new.get("priority"),
        cores=cores,
        gpus=gpus,
        memory_bytes=None if memory is None else parse_memory(memory),
        named=None if named is None else {name: float(amount) for name, amount in named.items()},
        time_limit_s=None if limit is None else parse_duration(limit),
        expected_s=None if expected is None else parse_duration(expected),
        ranks=new.get("ranks"),
        ranks_per_node=new.get("ranks_per_node"),
    )
