"""Tasks and attempts, in words."""

import os
from typing import Protocol

from pilotmtc.errors import UsageError
from pilotmtc.model import GRACE_S, Attempt, Resources, Task, Template, Version
from pilotmtc.protocol.client.tasks import TaskDetail
from pilotmtc.resources.kinds import CORES, GPUS, MEMORY, named
from pilotmtc.resources.retry import causes_words, is_retried
from pilotmtc.template import expand, shown
from pilotmtc.template.programs import files_of
from pilotmtc.text.endings import describe_end, message_of
from pilotmtc.text.numbers import ago
from pilotmtc.units import format_duration, format_memory, type_memory

_REVISION_CHARS = 10
_DIGEST_CHARS = 10


class HasVersion(Protocol):
    """An attempt, or the result of one."""

    @property
    def version(self) -> int:
        """The number of what it ran."""

    @property
    def revision(self) -> str:
        """Its git revision."""


def command_line(task: Task) -> str:
    """Return a task's command with its parameters, or a call such as ``work(3.0)``, as a line for users."""
    template, params = Template(task.command, task.shell, tuple(task.params)), tuple(task.params.values())
    ids = {"task": task.id, "attempt": max(task.attempt, 1), "campaign": task.campaign}
    try:
        if task.function:  # which is for no shell, and so not quoted
            return " ".join(expand(template, params, **ids).argv)
        return shown(template, params, **ids)
    except UsageError:  # it cannot be expanded, as the task's failure will say
        return " ".join(task.command)


def detail_rows(detail: TaskDetail, now: float) -> list[tuple[str, str]]:
    """Return the details of a task as names and values; unknown values are empty."""
    task, template = detail.task, detail.template
    assert task is not None
    state = task.state.name + (", to be canceled" if task.cancel else ", on hold" if task.on_hold else "")
    if task.last is not None and task.state.name in ("DONE", "FAILED", "CANCELED"):
        state += f" ({describe_end(task.last)})"
    rows = [
        ("task", f"{task.id}{f' ({task.name})' if task.name else ''} of campaign {task.campaign}"),
        ("state", state),
        *_what_it_is(task, template),
        ("needs", needs_words(task.resources)),
        ("priority", str(task.priority) if task.priority else ""),
        ("tags", ", ".join(task.tags)),
        ("retries", _retries(task, template)),
        ("started", ago(task.started_at, now)),
        ("not before", ago(task.not_before, now)),
        ("pilot", str(task.pilot) if task.pilot is not None else ""),
    ]
    if template is not None:
        rows += [
            ("setup", "; ".join(template.setup)),
            ("shell", template.shell_program),
            ("directory", template.cwd or ""),
            ("variables", ", ".join(f"{name}={value}" for name, value in template.env.items())),
            ("stdin", template.stdin or ""),
            ("stdout", template.stdout or ""),
            ("stderr", template.stderr or ""),
            ("watched", ", ".join(template.watch)),
        ]
    return [*rows, *version_rows(detail)]


def _retries(task: Task, template: Template | None) -> str:
    if not task.max_retries:
        return ""
    words = [f"{min(task.failures, task.max_retries)} of {task.max_retries} used"]
    if template is not None:
        words += [*retry_causes(template), *growth(template)]
        last = task.last
        if task.state.name == "FAILED" and last is not None and not is_retried(template, last.cause, last.exit_code):
            words[0] = "none after such an end"
    return "; ".join(words)


def retry_causes(template: Template) -> list[str]:
    """Return after which ends alone the task is retried, and after which it is not, where that was said."""
    only, never = template.retry_on, template.no_retry_on
    return [
        *([f"only after {causes_words(only)}"] if only else []),
        *([f"not after {causes_words(never)}"] if never else []),
    ]


def growth(template: Template) -> list[str]:
    """Return what the attempt after which end has more of."""
    most = f", up to {type_memory(template.max_memory_bytes)}" if template.max_memory_bytes else ""
    return [
        words
        for words, given in (
            (f"memory x{template.retry_memory:g} after oom{most}", template.retry_memory > 1),
            (f"time limit x{template.retry_time:g} after timeout", template.retry_time > 1),
        )
        if given
    ]


def _what_it_is(task: Task, template: Template | None) -> list[tuple[str, str]]:
    if not task.function:
        params = ", ".join(f"{name}={value}" for name, value in task.params.items())
        return [("command", command_line(task)), ("params", params)]
    said = task.last.value_text if task.last is not None else ""
    rows = [
        ("call", command_line(task)),
        ("value", said if task.state.name == "DONE" else ""),
        ("raised", said if task.state.name == "FAILED" else ""),
        ("function", task.function),
    ]
    if template is not None and template.function is not None:
        version = ".".join(map(str, template.function.version))
        rows.append(("python", f"{template.function.python or 'that of the pilot'}, for functions of Python {version}"))
    return rows


def last_lines(data: bytes, most: int) -> list[str]:
    """Return the last lines of what was written, such as a traceback."""
    return data.decode("utf-8", "replace").rstrip().splitlines()[-most:]


def attempt_row(attempt: Attempt, now: float) -> tuple[str, ...]:
    """Return a row for a table of attempts: number, end, time, CPU, memory, start, where, version, message."""
    return (
        str(attempt.attempt),
        describe_end(attempt),
        format_duration(attempt.elapsed_s),
        format_duration(attempt.cpu_s),
        format_memory(attempt.memory_bytes) if attempt.memory_bytes else "",
        ago(attempt.started_at or None, now),
        str(attempt.pilot),
        attempt.node,
        attempt.slot,
        version_words(attempt),
        message_of(attempt) or attempt.value_text,
    )


def version_words(ran: HasVersion) -> str:
    """Return the number of what an attempt ran, with the git revision: ``3 (1f2e3d4c5b6a+)``; empty: not known."""
    if not ran.version:
        return ""
    return f"{ran.version} ({short_revision(ran.revision)})" if ran.revision else str(ran.version)


def short_revision(revision: str) -> str:
    """Return a git revision as git shortens it, with its ``+`` if files differed from it."""
    return revision.rstrip("+")[:_REVISION_CHARS] + "+" * revision.endswith("+")


def files_run(version: Version) -> dict[str, str]:
    """Return the program files that attempts ran, with their content; see `pilotmtc.model.Program`."""
    return {} if version.program is None else files_of(version.template, version.program)


def version_rows(detail: TaskDetail) -> list[tuple[str, str]]:
    """Return what attempts of a task ran, as names and values, if they ran different things or git knows it."""
    rows = []
    for version in detail.versions.values():
        program = version.program
        parts = [" ".join(version.template.command)] if len(detail.versions) > 1 else []
        if program is not None:
            if program.revision:
                changed = ", with changed files" if program.dirty else ""
                parts.append(f"git {program.revision[:_REVISION_CHARS]}{changed}")
            files = files_run(version).items()
            parts += [f"{os.path.basename(path)} {digest[:_DIGEST_CHARS] or '?'}" for path, digest in files]
            parts.append(f"pilotmtc {program.pilotmtc}, {program.user} on {program.host}")
        if parts:
            rows.append((f"version {version.id}", "; ".join(parts)))
    return rows


def needs_words(needs: Resources) -> str:
    """Return what a task needs, in words."""
    parts = [CORES.words(needs.cores)]
    if needs.ranks > 1:
        a_node = f" ({needs.ranks_per_node} a node)" if needs.ranks_per_node else ""
        parts[0] = f"{needs.ranks} ranks{a_node} of {parts[0]}"
    if needs.gpus:
        parts.append(GPUS.words(needs.gpus))
    if needs.memory_bytes:
        parts.append(MEMORY.words(needs.memory_bytes))
    parts += [named(name).words(amount) for name, amount in needs.named.items()]
    if needs.time_limit_s:
        parts.append(f"at most {format_duration(needs.time_limit_s)}")
    if needs.expected_s:
        parts.append(f"about {format_duration(needs.expected_s)}")
    if needs.grace_s != GRACE_S:
        parts.append(f"{format_duration(needs.grace_s)} of grace" if needs.grace_s else "no grace")
    if needs.signal_first:
        parts.append(f"{needs.signal_first} first")
    return ", ".join(parts)
