"""Commands for programs: ``serve``, ``agent``, and the shells' ``completion``."""

import os
import sys

import click

from pilotmtc.cli.command import command, store_word
from pilotmtc.cli.output import streams

_COMPLETION = """\
eval "$(pilotmtc completion bash)"       # in ~/.bashrc
eval "$(pilotmtc completion zsh)"        # in ~/.zshrc
pilotmtc completion fish > ~/.config/fish/completions/pilotmtc.fish
"""


@command("serve", examples="ssh login.site pilotmtc serve ~/runs/store.db\n")
@click.argument("path", metavar="[STORE]", required=False, type=click.Path())
@click.option("--key", default="", metavar="NAME", help="Accept only what the store's key of this name permits.")
@click.option("--existing", is_flag=True, help="Fail if the store does not exist, instead of making one.")
def serve(path: str | None, key: str, existing: bool) -> None:
    """Find the server of STORE on this host, or start it, and hand it stdin and stdout.

    Clients run it at the store's end of a pipe or of an SSH connection; it is not meant to be run by hand.
    """
    from pilotmtc.store import serve as module
    from pilotmtc.store.location import locate

    where = locate(path or store_word())
    if where.target is not None:
        raise click.UsageError("serve is for stores of this host", click.get_current_context())
    if sys.stdin.isatty():
        raise click.UsageError(
            "serve is for programs: its stdin and stdout must be a pipe or a socket", click.get_current_context()
        )
    script = os.path.abspath(module.__file__)
    words = [*([module.EXISTING] if existing else []), where.path, *([key] if key else [])]
    os.execv(sys.executable, [sys.executable, "-I", "-S", script, *words])


@command("agent", hidden=True, context_settings={"ignore_unknown_options": True, "help_option_names": []})
@click.argument("words", nargs=-1, type=click.UNPROCESSED)
def agent(words: tuple[str, ...]) -> int:
    """Run tasks for a pilot. Pilots start it themselves."""
    from pilotmtc.agent.main import main

    store = store_word()
    return main([*(["--store", store] if store else []), *words])


@command("look-here", hidden=True)
@click.option("--scheduler", default="")
@click.option("--login", default="")
def look_here(scheduler: str, login: str) -> None:
    """Look at a site on its own host. ``site check`` runs it there."""
    import msgspec

    from pilotmtc.deploy.check import HERE_MARK
    from pilotmtc.deploy.on_store_host import look

    for found in look(scheduler, login, store_word() or ""):
        streams.put([HERE_MARK + msgspec.json.encode(found).decode()])
        sys.stdout.flush()


@command("completion", examples=_COMPLETION)
@click.argument("shell", type=click.Choice(("bash", "zsh", "fish")))
def completion(shell: str) -> None:
    """Print the script that lets SHELL complete pilotmtc's commands and options."""
    from click.shell_completion import get_completion_class

    made = get_completion_class(shell)
    assert made is not None
    streams.put([made(click.get_current_context().find_root().command, {}, "pilotmtc", "_PILOTMTC_COMPLETE").source()])
