"""What all commands share: examples in the help, the store, the session."""

from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from pilotmtc.model import PilotDescription
    from pilotmtc.session import Session

EXIT_TASKS_FAILED = 1
EXIT_TIMEOUT = 124
EXIT_INTERRUPTED = 130
EXIT_BROKEN_PIPE = 141
EXIT_TERMINATED = 143

F = TypeVar("F", bound=Callable[..., Any])
_GIVEN = "pilotmtc.given"


class GlobalOptions:
    """Options that belong to all commands."""

    def __init__(self) -> None:
        self.store: str | None = None
        self.site: str | None = None


class Helpful(click.Command):
    """A command whose help ends with examples."""

    def __init__(self, *args: Any, examples: str = "", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.examples = examples

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the command line, after refusing options that are given twice or are empty."""
        if not ctx.resilient_parsing:
            given, _, order = self.make_parser(ctx).parse_args(list(args))
            _check_options(ctx, given, order)
            ctx.meta[_GIVEN] = given
        return super().parse_args(ctx, args)

    def get_short_help_str(self, limit: int = 45) -> str:
        """Return the whole first sentence, which click would cut off."""
        first = " ".join((self.help or "").split("\n\n")[0].split())
        end = first.find(". ")
        return first if end < 0 else first[: end + 1]

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples."""
        if self.examples:
            with formatter.section("Examples"):
                for line in self.examples.strip().splitlines():
                    formatter.write(f"{'':{formatter.current_indent}}{line}\n")


class Clearable(click.Option):
    """An option that may be empty, which removes the value that a site sets."""


def _check_options(ctx: click.Context, given: dict[str, Any], order: list[click.Parameter]) -> None:
    """Raise `UsageError` if an option is given several times, of which click would keep the last, or is empty.

    An empty value usually comes from an unset shell variable; to ignore it would be a guess.
    """
    seen: dict[str | None, click.Option] = {}
    for option in order:
        if not isinstance(option, click.Option) or option.multiple:
            continue
        before = seen.setdefault(option.name, option)
        if before is not option:
            raise click.UsageError(f"{_called(before)} and {_called(option)} exclude each other", ctx)
        if order.count(option) > 1 and (option.secondary_opts or not option.is_flag):
            raise click.UsageError(f"{_called(option)} is given {_times(order.count(option))}: it takes one value", ctx)
    for option in order:
        value = given.get(option.name or "")
        if isinstance(option, Clearable) or not isinstance(option, click.Option):
            continue
        if value == "" or (isinstance(value, list) and "" in value):
            name = _called(option)
            raise click.UsageError(f"{name} is empty: give it {option.metavar or 'a value'}, or leave it out", ctx)


def _called(option: click.Option) -> str:
    return next((name for name in option.opts if name.startswith("--")), option.opts[0])


def _times(count: int) -> str:
    return "twice" if count == 2 else f"{count} times"


class CommandGroup(Helpful, click.Group):
    """A command with subcommands, one of which must be given."""


def set_store(ctx: click.Context, _param: click.Parameter, value: str | None) -> None:
    """Remember ``--store``; the one of the innermost command counts."""
    if value is not None:
        ctx.ensure_object(GlobalOptions).store = value


def set_site(ctx: click.Context, _param: click.Parameter, value: str | None) -> None:
    """Remember ``--site``; the one of the innermost command counts."""
    if value is not None:
        ctx.ensure_object(GlobalOptions).site = value


def command(
    name: str, *, examples: str = "", kind: type[Helpful] = Helpful, **settings: Any
) -> Callable[[Callable[..., Any]], click.Command]:
    """Return a decorator that makes a command with ``--store``, ``-h`` and examples."""

    def decorate(function: Callable[..., Any]) -> click.Command:
        return click.command(name, cls=kind, examples=examples, **settings)(store_option(function))

    return decorate


def store_option(function: F) -> F:
    """Add ``--store`` and ``--site``."""
    function = click.option(
        "--site",
        metavar="NAME",
        expose_value=False,
        callback=set_site,
        help="Use this site's store and scheduler.",
    )(function)
    return click.option(
        "--store",
        type=click.Path(),
        metavar="PATH",
        expose_value=False,
        callback=set_store,
        help="The store's file.",
    )(function)


def store_word() -> str | None:
    """Return the store that was given; None if none was."""
    options = click.get_current_context().ensure_object(GlobalOptions)
    if options.store is None and site_word() != "local":
        from pilotmtc.sites import get_site

        return get_site(site_word()).url
    return options.store


def store_url() -> str:
    """Return the store's URL without opening it."""
    from pilotmtc.store.location import locate

    return locate(store_word()).url


def site_word() -> str:
    """Return the site that was given, by default ``local``."""
    return click.get_current_context().ensure_object(GlobalOptions).site or "local"


def hint(words: str) -> str:
    """Return ``pilotmtc WORDS`` with the options that are needed to reach the same store."""
    import shlex

    options = click.get_current_context().ensure_object(GlobalOptions)
    given = [f"--{name} {shlex.quote(word)}" for name in ("site", "store") if (word := getattr(options, name))]
    return " ".join(["pilotmtc", *given, words])


def complete_file(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> "list[CompletionItem]":
    """Let the shell complete names of files."""
    from click.shell_completion import CompletionItem

    return [CompletionItem(incomplete, type="file")]


def typed(names: Container[str]) -> list[str]:
    """Return the given options of the command that have these names, as they were typed."""
    import shlex

    ctx = click.get_current_context()
    words = []
    for option in ctx.command.params:
        value = ctx.meta[_GIVEN].get(option.name)
        if not isinstance(option, click.Option) or option.name not in names:
            continue
        if option.is_flag:
            words += [_called(option)] if value is True else option.secondary_opts if value is False else []
        elif isinstance(value, str | list):
            for one in value if isinstance(value, list) else [value]:
                words += [_called(option), shlex.quote(one)]
    return words


@contextmanager
def open_session(*, makes: bool = False, pilot: "PilotDescription | None" = None) -> "Iterator[Session]":
    """Yield a session with the store that was given.

    Parameters
    ----------
    makes
        Whether to create the given store if it does not exist; the default store is always created.
    pilot
        What the command will run on this machine: its agent is started at once.

    Raises
    ------
    ConfigError
        If it does not exist and must not be created.
    """
    from pilotmtc.errors import NoProgram
    from pilotmtc.session.ahead import Ahead
    from pilotmtc.session.stores import expect_store

    if not makes:
        expect_store(click.get_current_context().ensure_object(GlobalOptions).store, site_word())
    try:
        with Ahead(store_word(), site_word(), pilot) as ahead:
            from pilotmtc.session import Session  # while the server starts

            with Session(store_word(), site=site_word(), ahead=ahead) as session:
                yield session
    except NoProgram as error:
        site = site_word()
        if site != "local" and click.get_current_context().ensure_object(GlobalOptions).store is None:
            error.args = (f"{error}. `pilotmtc site deploy {site}` puts it there",)
        raise


def newest_campaign(session: "Session", campaign: int | str | None = None) -> int:
    """Return the number of `campaign`, which is given by number or name, or of the newest one if it is None."""
    if campaign is not None:
        return session.campaign(campaign).id
    from pilotmtc.errors import UsageError

    found = session.campaigns()
    if not found:
        raise UsageError(f"there is no campaign in {session.url} yet: see pilotmtc run --help")
    return found[0].id
