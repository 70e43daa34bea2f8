"""``pilotmtc site``."""

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from pilotmtc.cli.command import Helpful
from pilotmtc.cli.options.types import Number, json_option
from pilotmtc.cli.output import streams
from pilotmtc.text.plain import plain
from pilotmtc.text.tables import Column, pairs

if TYPE_CHECKING:
    from pilotmtc.deploy.finding import Finding
    from pilotmtc.sites import Site

_COLUMNS = (
    Column("SITE"), Column("HOST", spare=2), Column("SCHEDULER"), Column("QUEUE", optional=True),
    Column("ACCOUNT", optional=True), Column("STORE", spare=1),
)  # fmt: skip
_EXAMPLES = """\
pilotmtc site add boulder me@login.boulder --scheduler slurm --account acc --queue normal
pilotmtc run --site boulder --nodes 64 --walltime 2h -- ./sim {} ::: 1 2 3
"""


class _Sites(Helpful, click.Group):
    """A group without --store and --site, which make no sense here."""


@click.group("site", cls=_Sites, examples=_EXAMPLES)
def site() -> None:
    """Manage sites: machines with a scheduler.

    They are kept in ~/.config/pilotmtc/sites.toml, which may be edited by hand; docs/sites.md has all its keys.
    """


def _command(name: str, *, examples: str) -> Callable[[Callable[..., Any]], click.Command]:
    return click.command(name, cls=Helpful, examples=examples)


@_command("add", examples="pilotmtc site add boulder me@login.boulder --scheduler slurm --account acc --queue normal\n")
@click.argument("name")
@click.argument("host", required=False, default="")
@click.option(
    "--scheduler", metavar="NAME", help="slurm, pbs, moab, condor, or local: none  [default: slurm; here: found]"
)
@click.option("--store", metavar="PATH", help="The store's file there  [default: ~/.pilotmtc/store.db]")
@click.option("--command", metavar="PATH", help="pilotmtc there  [default: on its PATH]")
@click.option("--python", metavar="PATH", help="Python of function workers there  [default: that of its pilotmtc]")
@click.option("--config", type=click.Path(), metavar="FILE", help="SSH configuration for this site.")
@click.option("--identity", type=click.Path(), metavar="FILE", help="Private key for this site.")
@click.option("--transport", type=click.Choice(("paramiko", "openssh")), help="How to reach it  [default: paramiko]")
@click.option(
    "--login", metavar="HOST",
    help="How its nodes reach its login host, [user@]host[:port]; - if they are it  [default: its name; with local: -]",
)  # fmt: skip
@click.option("--setup", multiple=True, metavar="LINE", help="Shell line for jobs, such as 'module load python'.")
@click.option("--queue", "--partition", "queue", metavar="NAME", help="Usual queue.")
@click.option("--account", metavar="NAME", help="Usual account.")
@click.option("--qos", metavar="NAME", help="Usual quality of service.")
@click.option("--constraint", metavar="WORDS", help="Usual constraint.")
@click.option("--reservation", metavar="NAME", help="Usual reservation.")
@click.option("--exclusive", is_flag=True, help="Whole nodes.")
@click.option("--walltime", metavar="TIME", help="Usual walltime.")
@click.option("--nodes", type=Number(1), metavar="N", help="Usual number of nodes.")
@click.option("--cores", type=Number(1), metavar="N", help="Cores of a node to use  [default: all]")
@click.option("--gpus", type=Number(0), metavar="N", help="GPUs of a node.")
@click.option("--memory", metavar="SIZE", help="Memory of a node to use.")
@click.option("--idle", metavar="TIME", help="Time without a task after which pilots end.")
@click.option("--replace", is_flag=True, help="Replace an existing site of that name.")
@click.option("--no-check", is_flag=True, help="Do not check the site now.")
@json_option
def add(name: str, host: str, replace: bool, no_check: bool, as_json: bool, **keys: Any) -> int:
    """Add the site NAME, whose login host is HOST ([user@]host[:port]), if that lets you in.

    Without HOST it is this machine. The checks of `site check` are made, and problems are reported. `site deploy` can
    install pilotmtc there afterwards.
    """
    from pilotmtc.errors import UsageError
    from pilotmtc.sites import find_scheduler, make_site, read_sites, save_site

    if name in read_sites() and not replace:
        raise UsageError(f"there is a site {name!r} already: give --replace to replace it")
    table = {key: value for key, value in keys.items() if value not in (None, "", False, ())}
    table["host"] = host
    if not host and not table.get("scheduler"):
        table["scheduler"] = find_scheduler()
    found = make_site(name, table)
    if not no_check:
        from pilotmtc.deploy.check import check as look

        for one in look(found):
            streams.tell(_line(one))
            if one.ok is False and one.name in ("ssh", "host key"):
                streams.tell(f"site {name} was not added: --no-check adds it all the same")
                return one.exit_code
    save_site(found)
    if as_json:
        streams.put_json(_shape(found))
    else:
        streams.tell(f"site {name} added: pilotmtc run --site {name} ..., pilotmtc pilot submit --site {name}")
    return 0


@_command("check", examples="pilotmtc site check boulder\npilotmtc site check boulder --job --timeout 1h\n")
@click.argument("name")
@click.option("--job", is_flag=True, help="Also submit a job of one node, and check that it reaches the store.")
@click.option("--timeout", default="10m", show_default=True, metavar="TIME", help="How long to wait for that job.")
@json_option
def check(name: str, job: bool, timeout: str, as_json: bool) -> int:
    """Check whether the site NAME has all it needs, and say how to fix what it lacks.

    It checks ssh, the host key, Python, pilotmtc's version and protocol, the store and its file system, the
    scheduler's commands, and the way from a compute node back to the store, as far as the login host itself can try it.
    The exit code is that of the first problem.
    """
    from pilotmtc.deploy.check import check as look
    from pilotmtc.sites import get_site
    from pilotmtc.units import parse_duration

    wait_s = parse_duration(timeout)
    code = 0

    def show(one: "Finding") -> None:
        nonlocal code
        if as_json:
            streams.put_json({"name": one.name, "ok": one.ok, "words": one.words, "exit_code": one.exit_code})
        else:
            streams.put([_line(one)])
        code = code or one.exit_code

    for one in look(get_site(name)):
        show(one)
    if job and not code:
        from pilotmtc.session.node_check import check_node

        show(check_node(name, wait_s))
    return code


@_command(
    "deploy", examples="pilotmtc site deploy boulder\npilotmtc site deploy boulder --python /opt/py/bin/python3\n"
)
@click.argument("name")
@click.option("--python", default="", metavar="PATH", help="Python there  [default: one that is found, 3.11 or later]")
@click.option("--directory", default="~/.pilotmtc", show_default=True, metavar="PATH", help="Where to put it there.")
@json_option
def deploy(name: str, python: str, directory: str, as_json: bool) -> None:
    """Install this pilotmtc and its libraries on the site NAME, which needs no internet for it, and use it from now on.

    pip downloads the libraries here, for the Python there. Existing files are not sent again. What runs there continues
    with its version.
    """
    from pilotmtc.deploy.put import deploy as put
    from pilotmtc.sites import get_site, save_site

    done = put(get_site(name), python=python, base=directory, talk=streams.tell)
    save_site(done.site)
    if as_json:
        streams.put_json(
            {
                "site": name, "version": done.version, "command": done.site.command, "python": done.python,
                "files": done.files, "sent": done.sent, "fresh": done.fresh, "others": list(done.others),
            }
        )  # fmt: skip
        return
    what = "is there now" if done.fresh else "was there already"
    streams.tell(f"pilotmtc {done.version} {what}: {done.site.command}")
    if done.others:
        streams.tell(f"others are there, which pilots may still use; docs/sites.md says more: {', '.join(done.others)}")


@_command(
    "keys", examples="pilotmtc site keys boulder\npilotmtc site keys boulder --revoke pilot-20261126-010203-abcdef\n"
)
@click.argument("name")
@click.option("--revoke", multiple=True, metavar="KEY", help="Revoke this key; may be repeated.")
@json_option
def keys(name: str, revoke: tuple[str, ...], as_json: bool) -> None:
    """List the keys that open the store of the site NAME, such as those of its pilots, or revoke some.

    A pilot's key is revoked automatically when the pilot ends. Revoking it earlier cuts the pilot off: the pilot is
    given up, and other pilots run its tasks.
    """
    from pilotmtc.cli.output.keys import put_keys
    from pilotmtc.errors import UsageError
    from pilotmtc.session import Session
    from pilotmtc.sites import get_site

    with Session(get_site(name).url) as session:
        there = session.keys()
        if unknown := set(revoke) - {key.name for key in there}:
            raise UsageError(f"site {name} has no key {min(unknown)!r}: see pilotmtc site keys {name}")
        for key in revoke:
            session.revoke_key(key)
        put_keys([key for key in there if key.name not in revoke], as_json)


@_command("list", examples="pilotmtc site list --json | jq .name\n")
@json_option
def list_(as_json: bool) -> None:
    """List the sites."""
    from pilotmtc.sites import config_path, read_sites

    sites = read_sites().values()
    if as_json:
        for one in sites:
            streams.put_json(_shape(one))
    elif sites:
        rows = [
            (one.name, one.host or "this machine", one.scheduler, one.queue, one.account, one.url or "")
            for one in sites
        ]
        streams.put_table(_COLUMNS, rows)
    else:
        streams.tell(f"there are no sites in {config_path()}: see pilotmtc site add --help")


@_command("show", examples="pilotmtc site show boulder\n")
@click.argument("name")
@json_option
def show(name: str, as_json: bool) -> None:
    """Show everything about the site NAME."""
    from pilotmtc.sites import get_site

    found = get_site(name)
    if as_json:
        streams.put_json(_shape(found))
        return
    rows = [(key, _text(value)) for key, value in _shape(found).items() if value]
    streams.put(pairs(rows, colour=streams.has_colour(sys.stdout)))


@_command("remove", examples="pilotmtc site remove boulder\n")
@click.argument("name")
@json_option
def remove(name: str, as_json: bool) -> None:
    """Forget the site NAME. Nothing is removed on the site itself."""
    from pilotmtc.sites import config_path, remove_site

    remove_site(name)
    if as_json:
        streams.put_json({"removed": name})
    streams.tell(f"site {name} is no longer in {config_path()}; its store and what was deployed there stay")


def _shape(one: "Site") -> dict[str, object]:
    return {**{key: getattr(one, key) for key in one.__struct_fields__}, "url": one.url}


def _line(one: "Finding") -> str:
    """Return a finding as a line, with further lines of a quoted message below it."""
    word = {True: "ok", False: "wrong", None: "-"}[one.ok]
    return f"{word:<7}{one.name:<11}{plain(one.words)}"


def _text(value: object) -> str:
    return "; ".join(map(str, value)) if isinstance(value, tuple) else str(value)


for _one in (add, check, deploy, keys, list_, show, remove):
    site.add_command(_one)
