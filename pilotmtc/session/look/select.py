"""Selecting tasks, and changing them: users' arguments become filters and requests."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import IntEnum
from typing import Any, TypedDict, TypeVar, Unpack

from pilotmtc.errors import UsageError, near
from pilotmtc.model import CampaignId, PilotId
from pilotmtc.protocol.client.tasks import Edit
from pilotmtc.protocol.records import Filter
from pilotmtc.resources.amounts import LARGEST
from pilotmtc.session.arguments import campaign_word, check_names, several, text, whole, word
from pilotmtc.session.look.filter import FilterError, parse_filter, pointed
from pilotmtc.session.needs import FIELDS, PARSERS, READERS, check_needs
from pilotmtc.states import Cause, TaskState

E = TypeVar("E", bound=IntEnum)


class Selection(TypedDict, total=False):
    """Conditions that select tasks. All of them must hold; None is no condition, and an empty one is an error.

    Attributes
    ----------
    ids, campaign, states, pilot
        By id; by campaign (or one of several), given by id or by name, which may contain ``*`` and ``?``; by state
        (`TaskState`, or its name in any case); by the pilot that runs or ran them last.
    names, tags
        Any of the names (``*`` and ``?`` are wildcards); all of the tags.
    exit_codes, causes
        Any of them, for the last attempt.
    filter
        Text such as ``"state:failed mass>3"`` with all this and more: see `pilotmtc.session.look.filter`. Or the result
        of its `parse_filter`.
    all
        All tasks of the store; to change all of them, this must be given.
    """

    ids: Iterable[int] | None
    campaign: int | str | Iterable[int | str] | None
    states: Iterable[TaskState | str] | None
    names: Iterable[str] | None
    tags: Iterable[str] | None
    pilot: int | None
    exit_codes: Iterable[int] | None
    causes: Iterable[Cause | str] | None
    filter: str | Filter | None
    all: bool


class NewValues(TypedDict, total=False):
    """New values for tasks, as in `TaskOptions`; None is no change.

    Attributes
    ----------
    command
        A shell line, or a program and its arguments; it must mention the parameters that the command of before does.
    env
        Variables that are added or replaced.
    """

    command: str | Sequence[str] | None
    env: Mapping[str, Any] | None
    watch: Sequence[str] | None
    retries: int | None
    backoff: str | float | None
    retry_on: str | Sequence[str] | None
    no_retry_on: str | Sequence[str] | None
    retry_memory: str | float | None
    max_memory: str | int | None
    retry_time: str | float | None
    max_output: str | int | None
    grace: str | float | None
    signal_first: str | None

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
    """Return the filter for `select`; no condition selects all tasks.

    Parameters
    ----------
    own
        Other keywords of the caller, for suggestions in errors.

    Raises
    ------
    TypeError
        If a keyword is unknown.
    UsageError
        If a condition is empty or has a wrong type, or if a state or cause is unknown.
    """
    check_names(select, (*Selection.__annotations__, *own))
    given: dict[str, Any] = {name: value for name, value in select.items() if value is not None}
    if given.pop("all", False) and given:
        raise UsageError(f"all tasks are asked for, and some: leave out all=True, or {', '.join(given)}")
    words = given.pop("filter", None)
    found = Filter(**{name: _READ[name](name, value) for name, value in given.items()})
    if words is None:
        return found
    return _both(found, words if isinstance(words, Filter) else _parsed(text("filter", words)), words)


def as_choice(**select: Unpack[Selection]) -> Filter:
    """Return the filter for `select`, which must not be empty, since the tasks will be changed."""
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


def _campaigns(name: str, value: object) -> CampaignId | str | tuple[CampaignId | str, ...]:
    if isinstance(value, str) or not isinstance(value, Iterable):
        return campaign_word(name, value)
    found = _some(name, value, campaign_word)
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


def _parsed(text: str) -> Filter:
    if not text.strip():
        raise UsageError(f"the filter {text!r} is empty: give conditions, or leave it out")
    try:
        return parse_filter(text)
    except FilterError as error:
        raise UsageError(pointed(text, error)) from error


def _both(found: Filter, other: Filter, words: object) -> Filter:
    """Return the filter for `found` and `other` together; `other` was given as `words`."""
    merged = {}
    for field in found.__struct_fields__:
        one, more = getattr(found, field), getattr(other, field)
        if one and more:
            raise UsageError(f"{words!r} asks for {field.replace('_', ' ')}, which are asked for already: say it once")
        merged[field] = one if one is not None and one != () else more
    return Filter(**merged)


def member(kind: type[E], word: object) -> E:
    """Return the member of `kind` with the name `word`, in upper or lower case.

    Raises
    ------
    UsageError
        If there is none; the text lists all.
    """
    if isinstance(word, kind):
        return word
    name = str(word).upper().replace("-", "_")
    if name in kind.__members__:
        return kind[name]
    close = near(name, kind.__members__)
    hint = f"did you mean {close.lower()}?" if close else f"there are {', '.join(kind.__members__).lower()}"
    raise UsageError(f"{word!r} is not a {'cause' if kind is Cause else 'state'}: {hint}")


def check_new_values(new: NewValues) -> dict[str, Any]:
    """Return the values of `new`, each checked and converted; None is left out.

    Raises
    ------
    TypeError
        If a keyword is unknown.
    UsageError
        If nothing is to be changed, or if a value is invalid.
    """
    check_names(new, NewValues.__annotations__)
    read = READERS | {"command": _command}
    has: dict[str, Any] = {name: read[name](name, value) for name, value in new.items() if value is not None}
    if not has:
        raise UsageError(
            "nothing to change: give a command, variables, a priority, cores, ranks, gpus, memory, resources, times or "
            "retries"
        )
    check_needs(has)
    if not -LARGEST <= has.get("priority", 0) <= LARGEST:
        raise UsageError(f"priority {has['priority']}: give a number from {-LARGEST} to {LARGEST}")
    return {name: PARSERS[name](value) if name in PARSERS else value for name, value in has.items()}


def _command(name: str, value: object) -> str | tuple[str, ...]:
    return value if isinstance(value, str) else several(name, value, word)


def as_edit(key: str, select: Filter, **new: Unpack[NewValues]) -> Edit:
    """Return the request that changes the selected tasks; see `check_new_values`."""
    has = {FIELDS.get(name, name): value for name, value in check_new_values(new).items()}
    if isinstance(command := has.get("command"), str):
        has |= {"command": (command,), "shell": True}
    return Edit(key, select, **has)
