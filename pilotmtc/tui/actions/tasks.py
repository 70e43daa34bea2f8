"""Actions on tasks, for all screens that show tasks."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from msgspec import Struct
from msgspec.structs import replace
from textual.binding import Binding

from pilotmtc.errors import UsageError
from pilotmtc.model import Task
from pilotmtc.protocol.base import Changed
from pilotmtc.protocol.client.tasks import Output
from pilotmtc.protocol.records import Filter, OutputTail
from pilotmtc.session import NewValues, Session
from pilotmtc.session.look.filter import parse_filter
from pilotmtc.session.look.select import check_new_values
from pilotmtc.states import TASK_FINAL, TaskState
from pilotmtc.text.numbers import count
from pilotmtc.text.tasks import command_line
from pilotmtc.tui.base import Base
from pilotmtc.tui.pager import output_files
from pilotmtc.tui.widgets.tables.listing import known_count
from pilotmtc.tui.widgets.windows.dialogs import Confirm, Form, field_meant

COUNTED = 10_000
_TAIL_S = 2.0  # how long to wait for what a running task has written
_NAMED = 8  # number of ids in a question
_BAD_ENDS = (TaskState.FAILED, TaskState.CANCELED, TaskState.SKIPPED)


class Operation(Struct, frozen=True):
    """An operation on tasks: in which states it is possible, what it does, and its words."""

    verb: str
    past: str
    states: tuple[TaskState, ...]
    unfit: str
    what: str


RETRY = Operation(
    "Retry", "will run again", _BAD_ENDS, "FAILED, CANCELED or SKIPPED",
    "Each runs again with all its retries, and so do tasks that were skipped because of it.",
)  # fmt: skip
CANCEL = Operation(
    "Cancel", "canceled", tuple(state for state in TaskState if state not in TASK_FINAL), "waiting, ready or running",
    "Running tasks are killed; the others never start.",
)  # fmt: skip
EDIT = Operation(
    "Edit", "changed", (TaskState.WAITING, TaskState.READY, *_BAD_ENDS), "waiting, ready or failed",
    "Empty fields stay as they are.",
)  # fmt: skip
HOLD = Operation(
    "Hold", "on hold", (TaskState.WAITING, TaskState.READY), "waiting or ready",
    "No pilot takes them until they are released.",
)  # fmt: skip
RELEASE = replace(HOLD, verb="Release", past="released", what="Pilots may take them again.")
_FIELDS = (
    ("Priority", "priority", "higher goes first"), ("Cores", "cores", ""), ("GPUs", "gpus", "such as 1 or 0.5"),
    ("Memory", "memory", "such as 8G; 0 is no limit"), ("Time limit", "time_limit", "such as 90m; 0 is none"),
    ("Retries", "retries", ""), ("Command", "command", "a shell line for the same {values}"),
)  # fmt: skip


class Target(Struct, frozen=True):
    """The tasks of an operation, their number (None: more than `COUNTED`), and their description."""

    filter: Filter
    count: int | None
    words: str
    left_out: int = 0


Work = Callable[[Session], Changed]


class TaskActions(Base):
    """A screen with actions on tasks; `chosen` are the tasks to which the keys apply."""

    BINDINGS = [
        Binding("r", "retry", "Retry"),
        Binding("c", "cancel", "Cancel"),
        Binding("e", "edit", "Edit"),
        Binding("H", "hold", "Hold, or release", show=False),
        Binding("o", "log", "Output"),
        Binding("y", "copy_ids", "Copy id", show=False),
        Binding("Y", "copy_commands", "Copy command", show=False),
    ]

    def chosen(self) -> list[Task]:
        """Return the tasks to which the keys apply."""
        return []

    def changed(self) -> None:
        """Read the tasks again after an action."""

    def action_retry(self) -> None:
        """Retry the chosen tasks."""
        self._begin_operation(RETRY, None)

    def action_cancel(self) -> None:
        """Cancel the chosen tasks."""
        self._begin_operation(CANCEL, None)

    def action_edit(self) -> None:
        """Change the chosen tasks."""
        self._begin_operation(EDIT, None)

    def action_hold(self) -> None:
        """Put the chosen tasks on hold; if all that can be are on hold, release them."""
        able = [task for task in self.chosen() if task.state in HOLD.states]
        self._begin_operation(RELEASE if able and all(task.on_hold for task in able) else HOLD, None)

    def action_copy_ids(self) -> None:
        """Copy the ids of the chosen tasks."""
        self._copy([str(task.id) for task in self.chosen()], " ", "id")

    def action_copy_commands(self) -> None:
        """Copy the commands of the chosen tasks."""
        self._copy([command_line(task) for task in self.chosen()], "\n", "command")

    def action_log(self) -> None:
        """Show the task's output."""
        for task in self.chosen()[:1]:
            self.begin(partial(self._show_log, task), "log")

    def _copy(self, texts: list[str], between: str, what: str) -> None:
        if texts:
            self.app.copy_to_clipboard(between.join(texts))
            self.notify(f"{count(len(texts), what)} copied", timeout=3)

    # -- operations ------------------------------------------------------------------------------------------------

    def _begin_operation(self, operation: Operation, text: str | None) -> None:
        """Start an operation on the chosen tasks or, if given, on all tasks of the filter `text`."""
        self.mtc.hold_keys()
        self.begin_for_all(partial(self._do, operation, text))

    async def _do(self, operation: Operation, text: str | None) -> None:
        if text is None:
            target = self._target_of(operation, self.chosen())
        else:
            target = await self._target_of_all(operation, text)
        if target.count == 0:
            self.mtc.release_keys()
            if text is not None or target.left_out:
                self.notify(
                    f"Nothing to {operation.verb.lower()}: no task of these is {operation.unfit}.", severity="warning"
                )
            return
        work = await self._ask_for_values(target) if operation is EDIT else await self._confirmed(operation, target)
        if work is None:
            return
        self.tell_if_cut()
        answer = await self.mtc.gateway.do(work)
        unfit = f"; {answer.unfit:,} skipped: not {operation.unfit}" if answer.unfit else ""
        self.notify(f"{count(answer.changed, 'task')} {operation.past}{unfit}", title=operation.verb, markup=False)
        if self.is_attached:
            self.changed()

    async def _confirmed(self, operation: Operation, target: Target) -> Work | None:
        """Return the operation if the user confirms it."""
        left = f"\n\n{_left_out(operation, target)}" if target.left_out else ""
        question = Confirm(f"{operation.verb} {target.words}?\n\n{operation.what}{left}", operation.verb)
        if not await self.app.push_screen_wait(question):
            return None
        if operation is RETRY:
            return lambda session: session.retry(filter=target.filter)
        if operation is HOLD:
            return lambda session: session.hold_tasks(filter=target.filter)
        if operation is RELEASE:
            return lambda session: session.release_tasks(filter=target.filter)
        return lambda session: session.cancel(filter=target.filter)

    def _target_of(self, operation: Operation, tasks: list[Task]) -> Target:
        fit = [task.id for task in tasks if task.state in operation.states]
        named = ", ".join(map(str, fit[:_NAMED])) + (", ..." if len(fit) > _NAMED else "")
        ids = f"id{'s' * (len(fit) != 1)} {named}"
        return Target(Filter(ids=tuple(fit)), len(fit), f"{count(len(fit), 'task')} ({ids})", len(tasks) - len(fit))

    async def _target_of_all(self, operation: Operation, text: str) -> Target:
        found = parse_filter(text)
        states = operation.states if found.states is None else tuple(s for s in found.states if s in operation.states)
        wish = replace(found, states=states)
        count = await self._counted(wish) if states else 0
        number = f"more than {COUNTED:,}" if count is None else f"{count:,}"
        which = f"all tasks that `{text}` finds and" if text.strip() else "all tasks of the store"
        return Target(wish, count, f"{which} that are {operation.unfit}: {number}")

    async def _counted(self, wish: Filter) -> int | None:
        count = known_count(wish, self.board)
        if count is None:
            count = await self.mtc.gateway.do(lambda session: session.count(most=COUNTED, filter=wish))
            return count if count <= COUNTED else None
        return count

    async def _ask_for_values(self, target: Target) -> Work | None:
        """Return the change that the user enters; the form comes again until it is valid or canceled."""
        texts, wrong, first = [""] * len(_FIELDS), "", 0
        left = f"\n{_left_out(EDIT, target)}" if target.left_out else ""
        while True:
            fields = [(label, value) for (label, _, _), value in zip(_FIELDS, texts, strict=True)]
            form = Form(
                f"Edit {target.words}.\n{EDIT.what}{left}{wrong}", fields, hints=[hint for _, _, hint in _FIELDS],
                yes="Change (ctrl-s)", first=first,
            )  # fmt: skip
            answer = await self.app.push_screen_wait(form)
            if answer is None:
                return None
            texts = answer
            try:
                new = _values(texts)
                check_new_values(new)
                return lambda session: session.edit(new, filter=target.filter)
            except UsageError as error:
                wrong = f"\n\n✗ {error}"
                first = field_meant(str(error), dict(zip([name for _, name, _ in _FIELDS], texts, strict=True)))

    # -- the log ----------------------------------------------------------------------------------------------

    async def _show_log(self, task: Task) -> None:
        """Show what a task has written, of a running one what it has written so far, in the pager."""
        output = await self.written(task)
        if output is None:
            self.notify(f"Task {task.id} has no output yet.")
            return
        with TemporaryDirectory(prefix="pilotmtc-") as directory:
            files = await self.mtc.gateway.do(lambda _: output_files(output, Path(directory)))
            if files:
                self.mtc.page(files)
            else:
                self.notify(f"Attempt {output.attempt} of task {task.id} wrote nothing.")

    async def written(self, task: Task) -> Output | OutputTail | None:
        """Return what a task has written, of a running one what it has written so far; None if it has no output."""
        if task.state is TaskState.RUNNING:
            tail = await self.mtc.gateway.do(lambda session: session.tail(task.id, wait_s=_TAIL_S))
            if tail.written is not None:
                return tail.written
        if task.last is None:
            return None
        try:
            return await self.mtc.gateway.do(lambda session: session.output(task.id, whole=False))
        except UsageError:
            return None


def _left_out(operation: Operation, target: Target) -> str:
    return f"{target.left_out:,} more will be skipped: not {operation.unfit}."


def _values(texts: list[str]) -> NewValues:
    found = {name: text.strip() for (_, name, _), text in zip(_FIELDS, texts, strict=True) if text.strip()}
    new = NewValues()
    if "priority" in found:
        new["priority"] = _whole("priority", found["priority"])
    if "cores" in found:
        new["cores"] = _whole("cores", found["cores"])
    if "gpus" in found:
        try:
            new["gpus"] = float(found["gpus"])
        except ValueError as error:
            raise UsageError(f"gpus {found['gpus']!r}: give a number, such as 1 or 0.5") from error
    if "memory" in found:
        new["memory"] = found["memory"]
    if "time_limit" in found:
        new["time_limit"] = found["time_limit"]
    if "retries" in found:
        new["retries"] = _whole("retries", found["retries"])
    if "command" in found:
        new["command"] = found["command"]
    return new


def _whole(name: str, text: str) -> int:
    try:
        return int(text)
    except ValueError as error:
        raise UsageError(f"{name} {text!r}: give a whole number") from error
