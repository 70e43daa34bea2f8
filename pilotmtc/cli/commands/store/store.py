"""``pilotmtc store``."""

import click

from pilotmtc.cli.command import EXIT_TASKS_FAILED, CommandGroup, command, open_session, store_option, store_url
from pilotmtc.cli.commands.look.results import PARTS, STDOUT_PARTS, json_lines, put_csv
from pilotmtc.cli.commands.store.key import key
from pilotmtc.cli.commands.store.limit import limit
from pilotmtc.cli.options.types import CAMPAIGN, json_option
from pilotmtc.cli.output import streams
from pilotmtc.cli.output.files import new_file
from pilotmtc.units import format_memory


@click.group(
    "store",
    cls=CommandGroup,
    examples="pilotmtc store path\npilotmtc store check\npilotmtc store export --format csv > all.csv\n",
)
@store_option
def store() -> None:
    """Check, compact, copy, export, limit or find the store, which is one SQLite file.

    Other programs may read it while it is in use: sqlite-utils, Datasette, anything that knows SQLite. The views tasks,
    attempts, results, campaigns and pilots are made for them.
    """


@command("path", examples="pilotmtc store path\nsqlite-utils query $(pilotmtc store path) 'select * from campaigns'\n")
@json_option
def path(as_json: bool) -> None:
    """Print where the store is. It need not exist yet."""
    found = store_url()
    if as_json:
        streams.put_json({"path": found})
    else:
        streams.put([found])


@command("where", examples="pilotmtc store where\npilotmtc store where --json\n")
@json_option
def where(as_json: bool) -> None:
    """Show the store's file system, how it is opened, and which process on which host serves it."""
    from msgspec.structs import asdict

    with open_session() as session:
        info, url = session.info(), session.url
    if as_json:
        shape = {name: value for name, value in asdict(info).items() if name != "tasks"}
        streams.put_json({"url": url, **shape})
        return
    reason = "set by `store mode`" if info.forced else "detected"
    streams.put(
        [
            f"store        {url}",
            f"file         {info.path}, {format_memory(info.size_bytes)}, schema {info.schema}",
            f"file system  {info.file_system}{f' on {info.mount}' if info.mount else ''}",
            f"mode         {info.mode} ({reason})",
            f"host         {info.host}",
            f"server       process {info.pid}, pilotmtc {info.version}",
            f"clients      {info.clients}",
        ]
    )


@command("mode", examples="pilotmtc store mode network\npilotmtc store mode auto\n")
@click.argument("mode", type=click.Choice(("auto", "local", "network")))
@json_option
def mode(mode: str, as_json: bool) -> None:
    """Set how all hosts open the store.

    "network" is for file systems that several hosts may use at once: one host has the file to itself, others send
    their clients there. "local" lets other programs read along. "auto", the default, detects the file system.
    """
    with open_session(makes=True) as session:
        session.set_mode(mode)
        info = session.info()
    if as_json:
        streams.put_json({"mode": info.mode, "forced": info.forced})
    else:
        streams.put([info.mode])


@command("check", examples="pilotmtc store check\n")
@json_option
def check(as_json: bool) -> int:
    """Check whether the store is sound: the file itself, and that its records fit together.

    The exit code is 0 if it is, 1 if it is not.
    """
    with open_session() as session:
        problems = session.check()
        url = session.url
    if as_json:
        streams.put_json({"ok": not problems, "problems": problems})
    elif problems:
        streams.put(problems)
        if all("large output" in problem for problem in problems):
            streams.tell(f"{url} itself is sound, but not all files of large outputs beside it are")
        else:
            streams.tell(f"{url} is damaged; make a copy of it before anything else")
    else:
        streams.put([f"{url} is sound"])
    return EXIT_TASKS_FAILED if problems else 0


@command("compact", examples="pilotmtc store compact\n")
@json_option
def compact(as_json: bool) -> None:
    """Return unused space in the store's file to the file system."""
    with open_session() as session:
        done = session.compact()
    if as_json:
        streams.put_json({"before_bytes": done.before, "after_bytes": done.after})
    else:
        streams.put([f"{format_memory(done.before)} before, {format_memory(done.after)} now"])


@command("snapshot", examples="pilotmtc store snapshot backup.db\n")
@click.argument("path", type=click.Path())
@json_option
def snapshot(path: str, as_json: bool) -> None:
    """Write a consistent copy of the store to PATH, while it is in use. The copy is a store as well.

    Of outputs that were too large for the store it has heads and tails only: the rest is in files beside the store.
    """
    notes: list[str] = []
    with open_session() as session:
        where = session.snapshot(path, lacks=notes.append)
    if as_json:
        streams.put_json({"path": str(where), "lacks": notes[0] if notes else None})
        return
    streams.put([str(where)])
    for note in notes:
        streams.warn(note)


@command(
    "export", examples="pilotmtc store export --format csv > all.csv\npilotmtc store export -c 7 -o results.jsonl\n"
)
@click.option(
    "-c", "--campaign", "campaigns", multiple=True, type=CAMPAIGN, metavar="CAMPAIGN",
    help="Results of this campaign only, by number or name; may be repeated.",
)  # fmt: skip
@click.option(
    "-f", "--format", "form", type=click.Choice(("csv", "jsonl")),
    help="CSV, or JSON with one object per line  [default: as FILE's name ends, else jsonl]",
)  # fmt: skip
@click.option(
    "-o",
    "--output",
    type=click.Path(),
    metavar="FILE",
    help="Write to this file, which appears only when it is complete.",
)
@click.option(
    "--stdout", type=STDOUT_PARTS, default="whole", show_default=True,
    help="Its first line, all of it, nothing, or the keys of the JSON objects in it.",
)  # fmt: skip
@click.option("--stderr", type=PARTS, default="whole", show_default=True, help="Its first line, all of it, or nothing.")
def export(campaigns: tuple[int | str, ...], form: str | None, output: str | None, stdout: str, stderr: str) -> None:
    """Write the results of all finished tasks, as CSV or as JSON, one object per line."""
    if form is None:
        form = "csv" if output is not None and output.endswith(".csv") else "jsonl"
    with open_session() as session, new_file(session, output) as stream:
        campaign = campaigns or None
        found = session.results(wait=False, campaign=campaign, outputs=(stdout, stderr) != ("none", "none"))
        if form == "csv":
            put_csv(found, session.fields(campaign=campaign), stdout, stderr, stream)
        else:
            for block in json_lines(found, stdout, stderr):
                stream.write(block.decode())


for _command in (path, where, mode, limit, check, compact, snapshot, export, key):
    store.add_command(_command)
