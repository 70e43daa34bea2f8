"""From tasks, one by one, to the messages that submit them; nothing here holds more than a chunk of them."""

from collections.abc import Callable, Iterable, Iterator, Sequence

from msgspec import Struct

from pilotmtc.clock import Clock, SystemClock
from pilotmtc.errors import UsageError
from pilotmtc.model import After, Resources, TaskRow, Template
from pilotmtc.template import check_text, checker
from pilotmtc.wire.messages import Submit

CHUNK = 4096
CHUNK_CHARS = 4 << 20  # keeps a message far below the wire's cap, whatever is in the values
VALUE_BYTES = 128 << 10  # Linux takes no longer argument or variable (MAX_ARG_STRLEN)
FLUSH_S = 0.1
PRIORITY_MAX = 2**31 - 1


class TaskSpec(Struct, frozen=True):
    """One task in the user's words: what `pilotmtc.model.TaskRow` is to a chunk, standing by itself.

    Tasks that share a `Template` and a `Resources` should share the very objects: that is what makes a million of
    them small.
    """

    template: Template
    resources: Resources = Resources()
    params: tuple[str, ...] = ()
    priority: int = 0
    name: str | None = None
    tags: tuple[str, ...] = ()
    after: tuple[After, ...] = ()


def chunks(
    tasks: Iterable[TaskSpec],
    *,
    key: str,
    name: str = "",
    own_pilots: bool = False,
    size: int = CHUNK,
    ready: Callable[[], bool] | None = None,
    clock: Clock | None = None,
) -> Iterator[Submit]:
    """Yield the messages that submit `tasks` as the campaign `key`; the last one seals it.

    A chunk is full after `size` tasks, or 4 MiB of values. It is sent before that when `ready` says that the next task
    would have to be waited for, or when collecting it has taken 0.1 s: a slow producer's tasks run while it goes on.

    Parameters
    ----------
    tasks
        Taken one by one, only as far as needed.
    own_pilots
        Whether they are kept for pilots of the campaign.
    ready
        Whether the next task is there already, as `pilotmtc.parameters.Source.ready` says; None: always.

    Raises
    ------
    UsageError
        If a task cannot be: its number, counted from 1, is in the text.
    """
    tell = (clock or SystemClock()).monotonic
    offset = 0
    rows: list[TaskRow] = []
    chars = 0
    # By identity, which the kept reference makes unique; with what looks at values, if that is needed.
    templates: dict[int, tuple[int, Template, Callable[[Sequence[str]], None] | None]] = {}
    resources: dict[int, tuple[int, Resources]] = {}
    started = tell()

    def message(*, last: bool) -> Submit:
        return Submit(
            key=key,
            offset=offset,
            name=name,
            templates=tuple(template for _, template, _ in templates.values()),
            resources=tuple(needs for _, needs in resources.values()),
            rows=tuple(rows),
            last=last,
            own_pilots=own_pilots,
        )

    for spec in tasks:
        template, needs, params, priority, label, tags, after = (
            spec.template,
            spec.resources,
            spec.params,
            spec.priority,
            spec.name,
            spec.tags,
            spec.after,
        )
        text = "".join(params)
        if len(params) != len(template.fields) or "\0" in text or len(text) >= VALUE_BYTES or not text.isascii():
            _check_params(offset + len(rows) + 1, template, params)
        if label is not None or tags or priority:
            _check_words(offset + len(rows) + 1, label, tags, priority)
        known = templates.get(id(template))
        if known is None:
            known = templates[id(template)] = (len(templates), template, checker(template))
        if known[2] is not None:
            try:
                known[2](params)
            except UsageError as error:
                raise UsageError(f"task {offset + len(rows) + 1}: {error}") from None
        asked = resources.get(id(needs))
        if asked is None:
            asked = resources[id(needs)] = (len(resources), needs)
        rows.append(TaskRow(known[0], asked[0], params, priority, label, tags, after))
        chars += len(text)
        if (
            len(rows) >= size
            or chars >= CHUNK_CHARS
            or (ready is not None and not ready())
            or tell() - started >= FLUSH_S
        ):
            yield message(last=False)
            offset += len(rows)
            rows.clear()
            templates.clear()
            resources.clear()
            chars = 0
            started = tell()
    yield message(last=True)


def _check_params(number: int, template: Template, params: Sequence[str]) -> None:
    if len(params) != len(template.fields):
        raise UsageError(
            f"task {number} brings {len(params)} values for the {len(template.fields)} parameters "
            f"({', '.join(template.fields)}): give one value for each"
        )
    for name, value in zip(template.fields, params, strict=True):
        check_text(value, f"parameter {name} of task {number}")
        if len(value.encode()) >= VALUE_BYTES:
            raise UsageError(
                f"parameter {name} of task {number} ({value[:30]!r}...) is {len(value.encode())} bytes long, and no "
                "program takes more than 128 KiB in one: write it to a file and give the file's name"
            )


def _check_words(number: int, name: str | None, tags: Sequence[str], priority: int) -> None:
    if name is not None:
        if not name:
            raise UsageError(f"task {number} has an empty name: leave the name out or give one")
        check_text(name, f"the name of task {number}")
    for tag in tags:
        if not tag:
            raise UsageError(f"task {number} has an empty tag: leave it out")
        check_text(tag, f"a tag of task {number}")
    if not -PRIORITY_MAX <= priority <= PRIORITY_MAX:
        raise UsageError(f"task {number} has priority {priority}: give a number from {-PRIORITY_MAX} to {PRIORITY_MAX}")
