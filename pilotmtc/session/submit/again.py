"""How a campaign is made again: on the command line, or with a campaign file."""

import shlex
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import cast

from pilotmtc.campaign.submit import CampaignOptions, TaskSpec
from pilotmtc.campaign.write import check_same, limits_of, lists_of, needs_of, runs, whole_of, write
from pilotmtc.errors import UsageError
from pilotmtc.model import After, Campaign, TaskId, Template
from pilotmtc.protocol.client.tasks import Dependency, GetDependencies, GetTask
from pilotmtc.protocol.records import Filter
from pilotmtc.resources.kinds import COUNTED
from pilotmtc.session.link import StoreLink
from pilotmtc.session.look.pages import pages
from pilotmtc.session.submit.command_line import tasks_of
from pilotmtc.session.submit.tasks import TaskOptions
from pilotmtc.template import own

_PAGE = 10_000
_LONGEST = 20_000  # characters: more is no command line to read or paste
_REPEATED = {"tags": "tag", "resources": "resource"}


def campaign_file(link: StoreLink, campaign: Campaign) -> str:
    """Return the TOML text of the campaign file that makes `campaign` again.

    Raises
    ------
    UsageError
        If there is none; the text names what cannot be said.
    """
    specs = _read(link, campaign)
    for number, spec in enumerate(specs, 1):
        for after in spec.after:
            if not isinstance(after.task, str):
                raise UsageError(
                    f"task {number} of campaign {campaign.id} waits for task {after.task}, and in a campaign file "
                    "tasks wait for others of the same file, by names that no others have: --as command may say it"
                )
    return write(campaign.name, specs, _whole(campaign))


def command_line(link: StoreLink, campaign: Campaign) -> list[str]:
    """Return the words of the command line ``pilotmtc submit ...`` that makes `campaign` again.

    Raises
    ------
    UsageError
        If there is none; the text names what cannot be said.
    """
    specs = _read(link, campaign)
    found = list(islice(runs(specs), 2))
    if len(found) > 1:
        raise _to_file(campaign, "its tasks differ in more than their values")
    ((texts, _),) = found
    first = specs[0]
    template = first.template
    if texts.after or texts.after_any:
        names = [after.task for spec in specs for after in spec.after if isinstance(after.task, str)]
        if names:
            raise _to_file(campaign, f"tasks of it wait for the ones called {names[0]!r}")
    if any(spec.after != first.after for spec in specs):
        raise _to_file(campaign, "its tasks wait for different ones")
    options = {**needs_of(first.resources), **limits_of(template), "priority": first.priority, "tags": texts.tags}
    options |= whole_of(_whole(campaign))
    options |= {"after": [after.task for after in first.after if after.well]}
    options |= {"after_any": [after.task for after in first.after if not after.well]}
    if texts.name is not None:
        options["task_name"] = texts.name
    options = {key: value for key, value in options.items() if value or (value == 0 and key == "grace")}
    fields = own(template.fields)
    rows = [spec.params[: len(fields)] for spec in specs]
    lists = lists_of(fields, rows)
    if lists is None:
        raise _to_file(campaign, "its values are not all combinations of some")
    reason = ""
    for words, axes in _ways(template, fields, lists):
        if len(words) == 1 and words[0].endswith(".toml"):
            break  # which would be taken for a campaign file
        try:
            check_same(tasks_of(words, (), None, axes, cast("TaskOptions", dict(options))), specs, "a command line")
        except UsageError as error:
            reason = reason or str(error)
            continue
        name = ["--name", campaign.name] if campaign.name else []
        line = ["pilotmtc", "submit", *name, *_option_words(options)]
        line += [word for axis in axes for word in ("--grid", axis)] + ["--", *words]
        if sum(map(len, line)) > _LONGEST:
            raise _to_file(campaign, f"its values and options are more than {_LONGEST:,} characters")
        return line
    raise _to_file(campaign, reason or "its command looks like the name of a campaign file")


def _whole(campaign: Campaign) -> CampaignOptions:
    after = tuple([one.campaign for one in campaign.after])
    return CampaignOptions(campaign.max_running, campaign.start_rate, after)


def joined(words: Sequence[str]) -> str:
    """Return a command line to paste into a shell."""
    return " ".join([word if word == ":::" else _quoted(word) for word in words])


def _quoted(word: str) -> str:
    """Return a word of a command line, in which no sign means something to a terminal."""
    if word.replace("\n", "").replace("\t", "").isprintable():
        return shlex.quote(word)
    signs = [
        f"\\{sign}" if sign in "\\'" else sign if sign.isprintable() else
        "".join([f"\\x{byte:02x}" for byte in sign.encode("utf-8", "surrogateescape")])
        for sign in word
    ]  # fmt: skip
    return f"$'{''.join(signs)}'"


def _to_file(campaign: Campaign, why: str) -> UsageError:
    return UsageError(
        f"no command line makes campaign {campaign.id} again: {why}. Write a campaign file: pilotmtc show "
        f"{campaign.id} --as toml"
    )


def _ways(
    template: Template, fields: Sequence[str], lists: Sequence[Sequence[str]]
) -> list[tuple[list[str], list[str]]]:
    """Return ways to say command and values: words, and axes of a grid."""
    command = list(template.command)
    bare = sum(field.isdecimal() for field in fields)

    def words(some: Sequence[Sequence[str]]) -> list[str]:
        return [*command, *[word for one in some for word in (":::", *one)]]

    axes = [f"{field}={','.join(one)}" for field, one in zip(fields[bare:], lists[bare:], strict=True)]
    return [(words(lists), []), (words(lists[:bare]), axes)]


def _option_words(options: Mapping[str, object]) -> list[str]:
    words: list[str] = []
    for key, value in options.items():
        name = f"--{_REPEATED.get(key, key).replace('_', '-')}"
        if value is True:
            words.append(name)
        elif isinstance(value, Mapping):
            for word, amount in value.items():
                words += (
                    [f"--{word}", str(amount)] if key == "resources" and word in COUNTED else [name, f"{word}={amount}"]
                )
        elif isinstance(value, list | tuple):
            words += [word for one in value for word in (name, str(one))]
        else:
            words += [name, str(value)]
    return words


# -- reading -----------------------------------------------------------------------------------------------------


def _read(link: StoreLink, campaign: Campaign) -> list[TaskSpec]:
    """Return the campaign's tasks, which wait for those of the same campaign by name as far as that can be said."""
    if not campaign.sealed:
        raise UsageError(
            f"the submission of campaign {campaign.id} has not finished: wait for it, or if it was interrupted "
            f"complete it, with pilotmtc run --resume {campaign.id}"
        )
    waits = _dependencies(link, campaign)
    templates: dict[int, Template] = {}
    ids: list[TaskId] = []
    specs: list[TaskSpec] = []
    names: dict[str, list[int]] = {}
    name_of: dict[int, str | None] = {}
    for page in pages(link, Filter(campaign=campaign.id), size=_PAGE):
        for task in page:
            if task.template not in templates:
                found = link.call(GetTask(task.id)).template
                assert found is not None
                templates[task.template] = found
            template = templates[task.template]
            if template.function is not None:
                raise UsageError(
                    f"campaign {campaign.id} calls the Python function {task.function}, whose code no command line and "
                    "no campaign file has: run the program again that made it"
                )
            after = _after(waits.get(task.id, ()), task.id, names, name_of)
            specs.append(
                TaskSpec(
                    template,
                    task.before_growth or task.resources,
                    tuple(task.params.values()),
                    task.priority,
                    task.name,
                    task.tags,
                    after,
                )
            )
            ids.append(task.id)
            if waits:
                name_of[task.id] = task.name
                if task.name is not None:
                    names.setdefault(task.name, []).append(task.id)
    if not specs:
        raise UsageError(f"campaign {campaign.id} has no tasks: there is nothing to make again")
    return specs


def _dependencies(link: StoreLink, campaign: Campaign) -> dict[int, list[Dependency]]:
    found: dict[int, list[Dependency]] = {}
    after = (0, 0)
    while True:
        page = link.call(GetDependencies(campaign.id, after))
        for one in page.dependencies:
            found.setdefault(one.task, []).append(one)
        if page.next == (0, 0):
            return found
        after = page.next


def _after(
    needs: Sequence[Dependency], task: int, names: Mapping[str, Sequence[int]], name_of: Mapping[int, str | None]
) -> tuple[After, ...]:
    """Return what a task waits for: by name where the campaign's earlier tasks of that name are just these."""
    by_name: dict[tuple[str, bool], int] = {}
    others: list[After] = []
    for one in needs:
        name = name_of.get(one.needs)
        if name is None:
            others.append(After(one.needs, one.well))
        else:
            by_name[name, one.well] = by_name.get((name, one.well), 0) + 1
    for (name, well), count in by_name.items():
        if count != bisect_left(names[name], task):
            some = next(one for one in needs if name_of.get(one.needs) == name)
            others.append(After(some.needs, some.well))
        else:
            others.append(After(name, well))
    return tuple(sorted(others, key=lambda after: not after.well))
