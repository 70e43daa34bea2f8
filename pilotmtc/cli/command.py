"""What all commands have in common: examples in their help, the store, the session."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from pilotmtc.session import Session

EXIT_TASKS_FAILED = 1
EXIT_TIMEOUT = 124
EXIT_INTERRUPTED = 130
EXIT_BROKEN_PIPE = 141
EXIT_TERMINATED = 143

F = TypeVar("F", bound=Callable[..., Any])


class State:
    """What was said for all commands."""

    def __init__(self) -> None:
        self.store: str | None = None
        self.site: str | None = None


class Helpful(click.Command):
    """A command whose help ends with examples."""

    def __init__(self, *args: Any, examples: str = "", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.examples = examples

    def get_short_help_str(self, limit: int = 45) -> str:
        """Return the first sentence, whole: there are lines enough for what click would cut short."""
        first = " ".join((self.help or "").split("\n\n")[0].split())
        end = first.find(". ")
        return first if end < 0 else first[: end + 1]

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples."""
        if self.examples:
            with formatter.section("Examples"):
                for line in self.examples.strip().splitlines():
                    formatter.write(f"{'':{formatter.current_indent}}{line}\n")


class Group(Helpful, click.Group):
    """A command with commands of its own, which wants one of them."""


def set_store(ctx: click.Context, _param: click.Parameter, value: str | None) -> None:
    """Remember ``--store``; the innermost one counts."""
    if value == "":
        raise click.BadParameter("it is empty: give a path, or leave --store out", ctx)
    if value is not None:
        ctx.ensure_object(State).store = value


def set_site(ctx: click.Context, _param: click.Parameter, value: str | None) -> None:
    """Remember ``--site``; the innermost one counts."""
    if value is not None:
        ctx.ensure_object(State).site = value


def command(name: str, *, examples: str = "", **settings: Any) -> Callable[[Callable[..., Any]], click.Command]:
    """Make a command with ``--store``, ``-h`` and examples."""

    def decorate(function: Callable[..., Any]) -> click.Command:
        return click.command(name, cls=Helpful, examples=examples, **settings)(store_option(function))

    return decorate


def store_option(function: F) -> F:
    """Add ``--store`` and ``--site``."""
    function = click.option(
        "--site", metavar="NAME", expose_value=False, callback=set_site, help="A site: its store, its scheduler."
    )(function)
    return click.option(
        "--store",
        metavar="PATH",
        expose_value=False,
        callback=set_store,
        help="The store's file.",
    )(function)


def store_word() -> str | None:
    """Return the store that was asked for, None if none was."""
    state = click.get_current_context().ensure_object(State)
    if state.store is None and site_word() != "local":
        from pilotmtc.sites import get_site

        return get_site(site_word()).url
    return state.store


def site_word() -> str:
    """Return the site that was asked for, ``local`` if none was."""
    return click.get_current_context().ensure_object(State).site or "local"


def hint(words: str) -> str:
    """Return ``pilotmtc WORDS`` as it must be typed to reach the same store."""
    import shlex

    state = click.get_current_context().ensure_object(State)
    given = [f"--{name} {shlex.quote(word)}" for name in ("site", "store") if (word := getattr(state, name))]
    return " ".join(["pilotmtc", *given, words])


@contextmanager
def open_session(*, makes: bool = False) -> "Iterator[Session]":
    """Give a session with the store that was asked for.

    Parameters
    ----------
    makes
        Whether a store that was named is made if it is not there; the usual one always is.

    Raises
    ------
    ConfigError
        If it is not there and not to be made.
    """
    from pilotmtc.errors import NoProgram
    from pilotmtc.session import Session

    if not makes:
        _expect_store()
    try:
        with Session(store_word(), site=site_word()) as session:
            yield session
    except NoProgram as error:
        site = site_word()
        if site != "local" and click.get_current_context().ensure_object(State).store is None:
            error.args = (f"{error}. `pilotmtc site deploy {site}` puts it there",)
        raise


def _expect_store() -> None:
    """See that a store that was named is there: a misspelt path is to be no empty store."""
    from pilotmtc.errors import ConfigError
    from pilotmtc.store.location import VARIABLE, locate

    variable = os.environ.get(VARIABLE) if site_word() == "local" else None
    named = click.get_current_context().ensure_object(State).store or variable
    if named is None or (where := locate(named)).target is not None:
        return
    try:
        os.stat(where.path)
    except FileNotFoundError as error:
        raise ConfigError(f"there is no store at {where.path}: pilotmtc submit or run makes one") from error
    except OSError:
        return  # opening it says better what is wrong


def newest_campaign(session: "Session", campaign: int | None) -> int:
    """Return `campaign`, or the newest if it is None."""
    if campaign is not None:
        return campaign
    from pilotmtc.errors import UsageError

    found = session.campaigns()
    if not found:
        raise UsageError(f"there is no campaign in {session.url} yet: see pilotmtc run --help")
    return found[0].id
