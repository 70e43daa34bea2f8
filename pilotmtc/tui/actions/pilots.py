"""Actions on pilots: each one is confirmed before, and reported after."""

from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from pilotmtc.errors import ConfigError, PilotMTCError, UsageError
from pilotmtc.model import Pilot
from pilotmtc.session import PilotOptions, Session
from pilotmtc.session.submit.pilot import usual_options
from pilotmtc.states import PILOT_FINAL
from pilotmtc.tui.base import Base
from pilotmtc.tui.widgets.windows.dialogs import Confirm, Form, field_meant

_FIELDS = (
    ("site", "Site", "local: the store's host, without a scheduler"),
    ("nodes", "Nodes", "1"),
    ("cores", "Cores a node", "all"),
    ("walltime", "Walltime", "such as 2h; empty: no limit"),
    ("idle", "Ends when idle for", "such as 5m; empty: never"),
    ("queue", "Queue", "the scheduler's choice"),
    ("account", "Account", "the scheduler's choice"),
    ("qos", "QOS", "the scheduler's choice"),
)
_NUMBERS = ("nodes", "cores")
_NONE = {"site": "local", "nodes": 1, "cores": 0, "walltime": 0, "idle": 0}  # the values of fields that were cleared


def drain(screen: Base, pilot: Pilot | None) -> None:
    """Let a pilot finish its running tasks, take no new ones, and end."""
    _ask(
        screen,
        pilot,
        ("Drain", "Pilot {} is draining."),
        "{} on {} of its cores run to their end; it takes no new ones, and then ends.",
        lambda session, id_: session.pilots.drain(id_),
    )


def hold(screen: Base, pilot: Pilot | None) -> None:
    """Let a pilot take no more tasks, or if it is on hold, take some again."""
    if pilot is not None and pilot.on_hold:
        _ask(
            screen, pilot, ("Release", "Pilot {} is released."), "{} on {} of its cores go on; it takes others again.",
            lambda session, id_: session.pilots.release(id_),
        )  # fmt: skip
        return
    _ask(
        screen, pilot, ("Hold", "Pilot {} is on hold."),
        "{} on {} of its cores run to their end; it takes no new ones until it is released.",
        lambda session, id_: session.pilots.hold(id_),
    )  # fmt: skip


def cancel(screen: Base, pilot: Pilot | None) -> None:
    """End a pilot now."""
    _ask(
        screen,
        pilot,
        ("Cancel", "Pilot {} is being canceled."),
        "{} on {} of its cores are killed; another pilot runs them again.",
        lambda session, id_: session.pilots.cancel(id_),
    )


def _ask(
    screen: Base,
    pilot: Pilot | None,
    words: tuple[str, str],
    effect: str,
    work: Callable[[Session, int], object],
) -> None:
    verb, done = words
    if pilot is None:
        screen.notify("There is no pilot under the cursor.", severity="warning")
        return
    if pilot.state in PILOT_FINAL:
        screen.notify(f"Pilot {pilot.id} has ended already.", severity="warning")
        return
    id_ = pilot.id
    where = f" at {pilot.description.site}" if pilot.description.site else ""
    if pilot.busy:
        what = effect.format("Tasks", f"{pilot.busy:,}")
    else:  # tasks that it has started since the last overview are not known
        what = "It ran nothing when it last reported." if pilot.seen_at else "It runs nothing yet."

    async def act() -> None:
        screen.tell_if_cut()
        await screen.mtc.gateway.do(lambda session: work(session, id_))
        screen.notify(done.format(id_))

    def answered(yes: bool | None) -> None:
        if yes:
            screen.begin(act, "pilot-action")

    screen.app.push_screen(Confirm(f"{verb} pilot {id_} ({pilot.state.name}{where})?\n\n{what}", verb), answered)


def submit(screen: Base) -> None:
    """Ask for a pilot's options, and submit it."""
    try:
        usual = usual_options(screen.mtc.gateway.site)
    except PilotMTCError as error:
        screen.notify(str(error), severity="error", markup=False)
        return
    values = {name: str(usual.get(name) or "") for name, _, _ in _FIELDS}
    _show(screen, values, values, "")


def _show(screen: Base, site: dict[str, str], values: dict[str, str], trouble: str) -> None:
    def answered(texts: list[str] | None) -> None:
        if texts is not None:
            told = {name: text.strip() for (name, _, _), text in zip(_FIELDS, texts, strict=True)}
            screen.begin(partial(_submit, screen, site, told), "pilot-submit")

    title = "Submit a pilot." + (f"\n\n✗ {trouble}" if trouble else "")
    fields = [(label, values[name]) for name, label, _ in _FIELDS]
    first = field_meant(trouble, values)
    form = Form(title, fields, hints=[hint for _, _, hint in _FIELDS], yes="Submit (ctrl-s)", first=first)
    screen.app.push_screen(form, answered)


def _submit(screen: Base, site: dict[str, str], values: dict[str, str]) -> Coroutine[Any, Any, None]:
    async def act() -> None:
        try:
            options = options_of(values, site)
            screen.tell_if_cut()
            pilot = await screen.mtc.gateway.do(lambda session: session.pilots.submit(**options))
        except (ConfigError, UsageError, PilotMTCError) as error:
            _show(screen, site, values, str(error))
            return
        screen.notify(f"Pilot {pilot.id} is {pilot.state.name}.")

    return act()


def options_of(values: dict[str, str], site: dict[str, str]) -> PilotOptions:
    """Return the options in a form. An empty field is the site's default, unless the user has cleared it.

    Raises
    ------
    UsageError
        If a number is invalid.
    """
    found: dict[str, Any] = {}
    for name, text in values.items():
        if not text:
            if site[name]:
                found[name] = _NONE.get(name, "")
            continue
        if name in _NUMBERS:
            if not text.isdecimal():
                raise UsageError(f"{name} {text!r}: give a whole number")
            found[name] = int(text)
        else:
            found[name] = text
    options: PilotOptions = found  # type: ignore[assignment]  # the names are those of _FIELDS
    return options
