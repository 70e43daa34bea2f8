"""Which tasks, and what to change in them, in users' words."""

import difflib
from collections.abc import Callable, Iterable, Mapping
from enum import IntEnum
from typing import Any, TypedDict, TypeVar, Unpack

from pilotmtc.errors import UsageError
from pilotmtc.model import CampaignId, PilotId
from pilotmtc.protocol.client.tasks import Edit
from pilotmtc.protocol.records import Filter
from pilotmtc.resources.amounts import LARGEST, check_amounts, check_gpus, check_ranks
from pilotmtc.session.arguments import amount, by_name, check_names, number, several, text, whole
from pilotmtc.session.look.filter import FilterError, parse_filter, pointed
from pilotmtc.states import Cause, TaskState
from pilotmtc.units import parse_duration, parse_memory

E = TypeVar("E", bound=IntEnum)


class Selection(TypedDict, total=False):
    """Which tasks: all conditions must hold; None is no condition, and an empty one is an error.

    Attributes
    ----------
    ids, campaign, states, pilot
        By number, by campaign (or one of several), by state (`TaskState` or its name in any case), by the pilot that
        has or had them.
    names, tags
        One of the names (``*`` and ``?`` are wildcards); all of the tags.
    exit_codes, causes
        One of them, at the last attempt's end.
    filter
        The same and more in one text, as in ``"state:failed mass>3"``: see `pilotmtc.session.look.filter`.
    all
        All tasks of the store, which must be said where they are changed.
    """

    ids: Iterable[int] | None
    campaign: int | Iterable[int] | None
    states: Iterable[TaskState | str] | None
    names: Iterable[str] | None
    tags: Iterable[str] | None
    pilot: int | None
    exit_codes: Iterable[int] | None
    causes: Iterable[Cause | str] | None
    filter: str | None
    all: bool


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


def as_filter(*own: str, **select: Unpack[Selection]) -> Filter:
    """Return the filter that means `select`; nothing said is all tasks.

    Parameters
    ----------
    own
        What else the caller takes by keyword, for the hint at what may be meant.

    Raises
    ------
    TypeError
        If there is no such keyword.
    UsageError
        If a condition is empty or of another type, or there is no such state or cause.
    """
    check_names(select, (*Selection.__annotations__, *own))
    given: dict[str, Any] = {name: value for name, value in select.items() if value is not None}
    if given.pop("all", False) and given:
        raise UsageError(f"all tasks are asked for, and some: leave out all=True, or {', '.join(given)}")
    words = given.pop("filter", None)
    found = Filter(**{name: _READ[name](name, value) for name, value in given.items()})
    return found if words is None else _both(found, text("filter", words))


def as_choice(**select: Unpack[Selection]) -> Filter:
    """Return the filter that means `select`, which must say something: it is of tasks to be changed."""
    found = as_filter(**select)
    if found == Filter() and not select.get("all"):
        raise UsageError("which tasks? give ids, a campaign or another condition, or all=True")
    return found


def _some(name: str, value: object, read: Callable[[str, object], Any]) -> tuple[Any, ...]:
    found = several(name, value, read)
    if not found or "" in found:
        what = f"{name}={list(found)!r} holds an empty text" if found else f"{name} is empty"
        raise UsageError(f"{what}: give values, or leave it out")
    return found


def _campaigns(name: str, value: object) -> CampaignId | tuple[CampaignId, ...]:
    if isinstance(value, str) or not isinstance(value, Iterable):
        return CampaignId(whole(name, value))
    found = _some(name, value, whole)
    return found if len(found) > 1 else found[0]


_READ: dict[str, Callable[[str, object], Any]] = {
    "ids": lambda name, value: _some(name, value, whole),
    "campaign": _campaigns,
    "states": lambda name, value: _some(name, value, lambda _, item: member(TaskState, item)),
    "names": lambda name, value: _some(name, value, text),
    "tags": lambda name, value: _some(name, value, text),
    "pilot": lambda name, value: PilotId(whole(name, value)),
    "exit_codes": lambda name, value: _some(name, value, whole),
    "causes": lambda name, value: _some(name, value, lambda _, item: int(member(Cause, item))),
}


def _both(found: Filter, text: str) -> Filter:
    """Return the filter that means `found` and what `text` says."""
    if not text.strip():
        raise UsageError(f"the filter {text!r} is empty: give conditions, or leave it out")
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


def member(kind: type[E], word: object) -> E:
    """Return the member of `kind` that `word` names, in any case.

    Raises
    ------
    UsageError
        If there is none; it says which there are.
    """
    if isinstance(word, kind):
        return word
    name = str(word).upper().replace("-", "_")
    if name in kind.__members__:
        return kind[name]
    close = difflib.get_close_matches(name, kind.__members__, 1)
    hint = f"did you mean {close[0].lower()}?" if close else f"there are {', '.join(kind.__members__).lower()}"
    raise UsageError(f"{word!r} is no {'cause' if kind is Cause else 'state'}: {hint}")


_NEW: dict[str, Callable[[str, object], Any]] = {
    **dict.fromkeys(("priority", "cores", "ranks", "ranks_per_node"), whole),
    "gpus": number,
    "memory": amount,
    "resources": lambda name, value: by_name(name, value, number),
    **dict.fromkeys(("time_limit", "expected"), amount),
}


def as_edit(key: str, select: Filter, **new: Unpack[NewValues]) -> Edit:
    """Return the request that changes what `select` selects.

    Raises
    ------
    UsageError
        If nothing is to be changed, or a value cannot be.
    """
    check_names(new, NewValues.__annotations__)
    if all(value is None for value in new.values()):
        raise UsageError(
            "nothing to change: give a priority, cores, ranks, gpus, memory, resources, time limit or expected time"
        )
    has: dict[str, Any] = {name: _NEW[name](name, value) for name, value in new.items() if value is not None}
    cores, gpus, memory = has.get("cores"), has.get("gpus"), has.get("memory")
    named, limit, expected = has.get("resources"), has.get("time_limit"), has.get("expected")
    if cores is not None and not 1 <= cores <= LARGEST:
        raise UsageError(f"a task needs {cores} cores: give 1 or more")
    if gpus is not None:
        check_gpus(gpus)
    check_amounts("a task needs", named or {})
    if not -LARGEST <= (has.get("priority") or 0) <= LARGEST:
        raise UsageError(f"priority {has.get('priority')}: give a number from {-LARGEST} to {LARGEST}")
    check_ranks(has.get("ranks"), has.get("ranks_per_node"))
    return Edit(
        key,
        select,
        priority=has.get("priority"),
        cores=cores,
        gpus=gpus,
        memory_bytes=None if memory is None else parse_memory(memory),
        named=named,
        time_limit_s=None if limit is None else parse_duration(limit),
        expected_s=None if expected is None else parse_duration(expected),
        ranks=has.get("ranks"),
        ranks_per_node=has.get("ranks_per_node"),
    )
