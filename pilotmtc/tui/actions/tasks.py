"""What can be done with tasks, on every screen that shows some."""

from pathlib import Path
from tempfile import TemporaryDirectory

from msgspec import Struct
from msgspec.structs import replace
from textual.binding import Binding

from pilotmtc.errors import UsageError
from pilotmtc.model import Task, TaskId
from pilotmtc.protocol.base import Changed
from pilotmtc.protocol.client.tasks import Cancel, Edit, GetOutput, GetTasks, Retry
from pilotmtc.protocol.records import Filter
from pilotmtc.session.look.filter import parse_filter
from pilotmtc.session.look.select import NewValues, as_edit
from pilotmtc.session.submit.sending import new_key
from pilotmtc.states import TASK_FINAL, TaskState
from pilotmtc.text.tasks import command_line
from pilotmtc.tui.base import Base
from pilotmtc.tui.pager import output_files
from pilotmtc.tui.widgets.dialogs import Confirm, Form, field_meant
from pilotmtc.tui.widgets.listing import known_count

COUNTED = 10_000
_NAMED = 8  # ids in a question
_PAGE = 1000
_BAD_ENDS = (TaskState.FAILED, TaskState.CANCELED, TaskState.SKIPPED)


class Deed(Struct, frozen=True):
    """Something that is done with tasks: to those in which states, what it does to them, and how to say so."""

    verb: str
    past: str
    states: tuple[TaskState, ...]
    unfit: str
    what: str


RETRY = Deed(
    "Retry", "to be run again", _BAD_ENDS, "FAILED, CANCELED or SKIPPED",
    "Each runs again with all its tries, and so do tasks that were skipped because of it.",
)  # fmt: skip
CANCEL = Deed(
    "Cancel", "canceled", tuple(state for state in TaskState if state not in TASK_FINAL), "still to run, or running",
    "What has not started never will; what runs is killed.",
)  # fmt: skip
EDIT = Deed(
    "Edit", "changed", (TaskState.WAITING, TaskState.READY, *_BAD_ENDS), "waiting, ready or ended badly",
    "What is left empty stays as it is.",
)  # fmt: skip
_FIELDS = (
    ("Priority", "priority", "higher goes first"), ("Cores", "cores", ""), ("GPUs", "gpus", "such as 1 or 0.5"),
    ("Memory", "memory", "such as 8G; 0 is no limit"), ("Time limit", "time_limit", "such as 90m; 0 is none"),
)  # fmt: skip


class Aim(Struct, frozen=True):
    """Tasks that something is to be done with, how many they are (None: more than `COUNTED`), and in words."""

    filter: Filter
    count: int | None
    words: str
    left_out: int = 0


class TaskActions(Base):
    """A screen that tasks can be steered from: `chosen` are those that the keys speak of."""

    BINDINGS = [
        Binding("r", "retry", "Retry"),
        Binding("c", "cancel", "Cancel"),
        Binding("e", "edit", "Edit"),
        Binding("l", "log", "Log"),
        Binding("y", "copy_ids", "Copy id", show=False),
        Binding("Y", "copy_commands", "Copy command", show=False),
    ]

    def chosen(self) -> list[Task]:
        """Return the tasks that the keys speak of."""
        return []

    def changed(self) -> None:
        """Look again: something was done."""

    def action_retry(self) -> None:
        """Run the chosen tasks again."""
        self._begin_deed(RETRY, None)

    def action_cancel(self) -> None:
        """Cancel the chosen tasks."""
        self._begin_deed(CANCEL, None)

    def action_edit(self) -> None:
        """Change the chosen tasks."""
        self._begin_deed(EDIT, None)

    def action_copy_ids(self) -> None:
        """Copy the ids of the chosen tasks."""
        self._copy([str(task.id) for task in self.chosen()], " ", "id")

    def action_copy_commands(self) -> None:
        """Copy the commands of the chosen tasks."""
        self._copy([command_line(task) for task in self.chosen()], "\n", "command")

    def action_log(self) -> None:
        """Show what the task wrote."""
        for task in self.chosen()[:1]:
            self.begin(self._show_log(task.id), "log")

    def _copy(self, texts: list[str], between: str, what: str) -> None:
        if texts:
            self.app.copy_to_clipboard(between.join(texts))
            self.notify(f"{len(texts):,} {what}{'s' * (len(texts) != 1)} copied", timeout=3)

    # -- deeds ------------------------------------------------------------------------------------------------

    def _begin_deed(self, deed: Deed, text: str | None) -> None:
        """Begin a deed with the chosen tasks or, if there is one, with all that the filter `text` finds."""
        # The program's worker, not the screen's: what was begun is told of on whichever screen one is by then.
        self.app.run_worker(self._told(self._do(deed, text)))

    async def _do(self, deed: Deed, text: str | None) -> None:
        aim = self._aim_at(deed, self.chosen()) if text is None else await self._aim_at_all(deed, text)
        if aim.count == 0:
            if text is not None or aim.left_out:
                self.notify(f"Nothing to {deed.verb.lower()}: no task of these is {deed.unfit}.", severity="warning")
            return
        if deed is EDIT:
            request: Retry | Cancel | Edit | None = await self._ask_for_values(aim)
        else:
            left = f"\n\n{aim.left_out:,} more are not {deed.unfit}, and stay as they are." if aim.left_out else ""
            question = Confirm(f"{deed.verb} {aim.words}?\n\n{deed.what}{left}", deed.verb)
            kind = Retry if deed is RETRY else Cancel
            request = kind(new_key(), aim.filter) if await self.app.push_screen_wait(question) else None
        if request is None:
            return
        self.tell_if_cut()
        answer: Changed = await self.mtc.gateway.ask(request)
        unfit = f"; {answer.unfit:,} were not {deed.unfit}" if answer.unfit else ""
        self.notify(f"{_count(answer.changed)} {deed.past}{unfit}", title=deed.verb, markup=False)
        if self.is_attached:
            self.changed()

    def _aim_at(self, deed: Deed, tasks: list[Task]) -> Aim:
        fit = [task.id for task in tasks if task.state in deed.states]
        named = ", ".join(map(str, fit[:_NAMED])) + (", ..." if len(fit) > _NAMED else "")
        ids = f"id{'s' * (len(fit) != 1)} {named}"
        return Aim(Filter(ids=tuple(fit)), len(fit), f"{_count(len(fit))} ({ids})", len(tasks) - len(fit))

    async def _aim_at_all(self, deed: Deed, text: str) -> Aim:
        found = parse_filter(text)
        states = deed.states if found.states is None else tuple(s for s in found.states if s in deed.states)
        wish = replace(found, states=states)
        count = await self._counted(wish) if states else 0
        number = f"more than {COUNTED:,}" if count is None else f"{count:,}"
        which = f"all tasks that `{text}` finds and" if text.strip() else "all tasks of the store"
        return Aim(wish, count, f"{which} that are {deed.unfit}: {number}")

    async def _counted(self, wish: Filter) -> int | None:
        count, after = known_count(wish, self.board), 0
        if count is not None:
            return count
        count = 0
        while count <= COUNTED:
            page = await self.mtc.gateway.ask(GetTasks(wish, after, _PAGE))
            count += len(page.tasks)
            after = page.next
            if not after:
                return count
        return None

    async def _ask_for_values(self, aim: Aim) -> Edit | None:
        """Return what is to be changed; the form comes again, with what was written, until it can be or is left."""
        texts, wrong, first = [""] * len(_FIELDS), "", 0
        left = f"\n{aim.left_out:,} more are not {EDIT.unfit}, and stay as they are." if aim.left_out else ""
        while True:
            fields = [(label, value) for (label, _, _), value in zip(_FIELDS, texts, strict=True)]
            form = Form(
                f"Edit {aim.words}.\n{EDIT.what}{left}{wrong}", fields, hints=[hint for _, _, hint in _FIELDS],
                yes="Change (ctrl-s)", first=first,
            )  # fmt: skip
            answer = await self.app.push_screen_wait(form)
            if answer is None:
                return None
            texts = answer
            try:
                return as_edit(new_key(), aim.filter, **_values(texts))
            except UsageError as error:
                wrong = f"\n\n✗ {error}"
                first = field_meant(str(error), dict(zip([name for _, name, _ in _FIELDS], texts, strict=True)))

    # -- the log ----------------------------------------------------------------------------------------------

    async def _show_log(self, task: TaskId, attempt: int = 0, only: str = "") -> None:
        found = await self.mtc.gateway.ask(GetOutput(task, attempt))
        if not found.found:
            self.notify(f"Task {task} has written nothing that is here yet: its output comes when an attempt ends.")
            return
        with TemporaryDirectory(prefix="pilotmtc-") as directory:
            files = await self.mtc.gateway.do(lambda _: output_files(found, Path(directory), only=only))
            if files:
                self.mtc.page(files)
            else:
                self.notify(f"Attempt {found.attempt} of task {task} wrote nothing{f' to {only}' if only else ''}.")


def _count(n: int) -> str:
    return f"{n:,} task{'s' * (n != 1)}"


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
    return new


def _whole(name: str, text: str) -> int:
    try:
        return int(text)
    except ValueError as error:
        raise UsageError(f"{name} {text!r}: give a whole number") from error
