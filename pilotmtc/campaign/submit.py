"""Pack a stream of tasks into the messages that submit them; no more than one message of tasks is held."""

from collections.abc import Callable, Iterable, Iterator, Sequence

from msgspec import Struct

from pilotmtc.errors import UsageError
from pilotmtc.model import After, CampaignId, Resources, TaskRow, Template
from pilotmtc.protocol.client.campaigns import Submit
from pilotmtc.template import check_text, checker

CHUNK = 4096
CHUNK_CHARS = 4 << 20  # keeps a message far below the largest frame, whatever the values are
VALUE_BYTES = 128 << 10  # Linux takes no longer argument or variable (MAX_ARG_STRLEN)
PRIORITY_MAX = 2**31 - 1


class TaskSpec(Struct, frozen=True):
    """One complete task; in a message it becomes a `pilotmtc.model.TaskRow`, which refers to shared parts.

    Tasks with the same `Template` and `Resources` should share the objects themselves: that keeps a million of
    them small.
    """

    template: Template
    resources: Resources = Resources()
    params: tuple[str, ...] = ()
    priority: int = 0
    name: str | None = None
    tags: tuple[str, ...] = ()
    after: tuple[After, ...] = ()


class CampaignOptions(Struct, frozen=True):
    """Options of a whole campaign.

    Attributes
    ----------
    max_running
        How many of its tasks may be claimed or running at once; 0: no limit.
    start_rate
        How many of its tasks pilots may be given a second; 0: no limit.
    after
        The campaigns, by id or name, whose tasks must all be DONE before.
    memo
        Whether its tasks are taken as DONE if earlier ones have run the same.
    """

    max_running: int = 0
    start_rate: float = 0.0
    after: tuple[int | str, ...] = ()
    memo: bool = False


NO_OPTIONS = CampaignOptions()


class Packer:
    """Packs tasks into the messages that submit them as the campaign `key`.

    A message is full after `size` tasks or 4 MiB of values; an incomplete one can be taken at any time.

    Parameters
    ----------
    own_pilots
        Whether only pilots of the campaign may run them.
    options
        Those of the campaign.
    after
        The ids of the campaigns that ``options.after`` means.
    offset
        How many tasks the campaign has already.

    Attributes
    ----------
    rows
        The tasks of the next message.
    """

    def __init__(
        self,
        *,
        key: str,
        name: str = "",
        own_pilots: bool = False,
        options: CampaignOptions = NO_OPTIONS,
        after: tuple[CampaignId, ...] = (),
        offset: int = 0,
        size: int = CHUNK,
    ) -> None:
        self.rows: list[TaskRow] = []
        self._key = key
        self._name = name
        self._own_pilots = own_pilots
        self._options = options
        self._after = after
        self._size = size
        self._offset = offset
        self._chars = 0
        # By identity, which stays unique because the object is kept; with the check of its values, if it needs one.
        self._templates: dict[int, tuple[int, Template, Callable[[Sequence[str]], None] | None]] = {}
        self._resources: dict[int, tuple[int, Resources]] = {}

    def add(self, spec: TaskSpec) -> bool:
        """Add a task; return whether the message is full.

        Raises
        ------
        UsageError
            If the task is invalid; the text has its number, counted from 1.
        """
        rows, template, needs, params = self.rows, spec.template, spec.resources, spec.params
        text = "".join(params)
        if len(params) != len(template.fields) or "\0" in text or len(text) >= VALUE_BYTES or not text.isascii():
            _check_params(self._offset + len(rows) + 1, template, params)
        if spec.name is not None or spec.tags or spec.priority:
            _check_words(self._offset + len(rows) + 1, spec.name, spec.tags, spec.priority)
        known = self._templates.get(id(template))
        if known is None:
            known = self._templates[id(template)] = (len(self._templates), template, checker(template))
        if known[2] is not None:
            try:
                known[2](params)
            except UsageError as error:
                raise UsageError(f"task {self._offset + len(rows) + 1}: {error}") from None
        asked = self._resources.get(id(needs))
        if asked is None:
            asked = self._resources[id(needs)] = (len(self._resources), needs)
        rows.append(TaskRow(known[0], asked[0], params, spec.priority, spec.name, spec.tags, spec.after))
        self._chars += len(text)
        return len(rows) >= self._size or self._chars >= CHUNK_CHARS

    def take(self, *, last: bool = False) -> Submit:
        """Return a message with the tasks added since the previous one; the `last` one completes the campaign."""
        message = Submit(
            key=self._key,
            offset=self._offset,
            name=self._name,
            templates=tuple(template for _, template, _ in self._templates.values()),
            resources=tuple(needs for _, needs in self._resources.values()),
            rows=tuple(self.rows),
            last=last,
            own_pilots=self._own_pilots,
            max_running=self._options.max_running,
            start_rate=self._options.start_rate,
            after=self._after,
            memo=self._options.memo,
        )
        self._offset += len(self.rows)
        self.rows.clear()
        self._templates.clear()
        self._resources.clear()
        self._chars = 0
        return message


def chunks(tasks: Iterable[TaskSpec], *, key: str, name: str = "", size: int = CHUNK) -> Iterator[Submit]:
    """Yield the messages that submit `tasks`, which are consumed only as needed; see `Packer`."""
    packer = Packer(key=key, name=name, size=size)
    for spec in tasks:
        if packer.add(spec):
            yield packer.take()
    yield packer.take(last=True)


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
