"""``pilotmtc logs``."""

import os
import sys
from typing import TYPE_CHECKING

import click

from pilotmtc.cli.command import command, open_session
from pilotmtc.cli.options.types import Ids, Number, json_option
from pilotmtc.cli.output import streams
from pilotmtc.errors import UsageError
from pilotmtc.text.plain import plain
from pilotmtc.units import format_memory

if TYPE_CHECKING:
    from pilotmtc.protocol.client.tasks import Output
    from pilotmtc.session import Session

_EXAMPLES = """\
pilotmtc logs 17
pilotmtc logs 17 --stderr
pilotmtc logs 17-20 --stdout > all.txt
pilotmtc logs 17 --attempt 1
pilotmtc logs 17 --follow
"""


@command("logs", examples=_EXAMPLES)
@click.argument("ids", metavar="ID...", nargs=-1, required=True, type=Ids())
@click.option("--stdout", "only", flag_value="stdout", help="Print stdout only.")
@click.option("--stderr", "only", flag_value="stderr", help="Print stderr only, to stdout.")
@click.option("-a", "--attempt", type=Number(1), default=None, metavar="N", help="Attempt  [default: the last]")
@click.option("-f", "--follow", is_flag=True, help="Keep printing what the task writes until it finishes.")
@json_option
def logs(ids: tuple[range, ...], only: str | None, attempt: int | None, follow: bool, as_json: bool) -> None:
    """Print what the last attempt of each task ID wrote: its stdout on stdout, its stderr on stderr.

    Outputs that were too large for the store, or went to files of the task's own, are read from their files. Of a task
    that runs, --follow prints what it has written so far (the last 16 KiB of it), and what it writes from then on.
    """
    from pilotmtc.session import output_blocks, output_text

    tasks = [id_ for some in ids for id_ in some]
    if follow:
        if len(tasks) > 1 or attempt or as_json:
            raise UsageError("--follow takes one task, and neither --attempt nor --json")
        _follow(tasks[0], only)
        return
    with open_session() as session:
        for task in tasks:
            found = session.output(task, attempt or 0, whole=False)
            if as_json:
                shape: dict[str, object] = {"id": task, "attempt": found.attempt}
                texts = {}
                for stream, kept, path, size in (
                    ("stdout", found.stdout, found.stdout_path, found.stdout_bytes),
                    ("stderr", found.stderr, found.stderr_path, found.stderr_bytes),
                ):
                    if only in (None, stream):
                        shape[f"{stream}_bytes"] = size
                        texts[stream] = output_text(kept, path, size, streams.warn)
                streams.put_bytes(streams.json_line(shape, texts))
                continue
            if len(tasks) > 1 and sys.stderr.isatty():
                streams.tell(f"==> task {task}, attempt {found.attempt} <==")
            _tell_elsewhere(task, found, only)
            if not (found.stdout_bytes or found.stderr_bytes):
                _tell_end(session, task, found.attempt)
            if only != "stderr":
                streams.put_bytes(output_blocks(found.stdout, found.stdout_path, found.stdout_bytes, streams.warn))
            if only != "stdout":
                blocks = output_blocks(found.stderr, found.stderr_path, found.stderr_bytes, streams.warn)
                if only == "stderr":
                    streams.put_bytes(blocks)
                else:
                    streams.write_stderr(blocks)


def _tell_elsewhere(task: int, found: "Output", only: str | None) -> None:
    """Tell where a task's output is that went to a device or to a file shared with other tasks, or was deleted."""
    for stream, kept, path, size in (
        ("stdout", found.stdout, found.stdout_path, found.stdout_bytes),
        ("stderr", found.stderr, found.stderr_path, found.stderr_bytes),
    ):
        if only not in (None, stream):
            continue
        if path is None and size and not kept:
            streams.tell(f"the {stream} of task {task}, {format_memory(size)}, was deleted")
        if path is None or size:
            continue
        if not os.path.isfile(path) or os.path.getsize(path):
            streams.tell(f"the {stream} of task {task} went to {path}")


def _tell_end(session: "Session", task: int, attempt: int) -> None:
    """Tell how an attempt without output ended, unless it ended by itself: perhaps it could not start."""
    from pilotmtc.states import Cause
    from pilotmtc.text.endings import describe_end, message_of

    for one in session.task(task).attempts:
        if one.attempt == attempt and one.cause is not Cause.EXIT:
            message = message_of(one)
            streams.tell(f"task {task} wrote nothing: {describe_end(one)}{f': {plain(message)}' if message else ''}")


def _follow(task: int, only: str | None) -> None:
    """Print what a task writes until it finishes."""
    attempt, told = 0, False
    with open_session() as session:
        for piece in session.follow_output(task):
            told = told or bool(piece.data)
            if piece.attempt != attempt:
                attempt = piece.attempt
                if sys.stderr.isatty():
                    streams.tell(f"==> task {task}, attempt {attempt} <==")
            if only in (None, piece.stream):
                if piece.left_out:
                    streams.tell(f"[pilotmtc: {piece.left_out:,} bytes of {piece.stream} left out here]")
                write = streams.put_bytes if piece.stream == "stdout" or only == "stderr" else streams.write_stderr
                write([piece.data])
        if not told:
            _tell_end(session, task, session.output(task, whole=False).attempt)
