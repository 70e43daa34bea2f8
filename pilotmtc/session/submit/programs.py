"""What tasks run: the store's host is asked for git revisions and the content of program files."""

from collections.abc import Sequence

from msgspec.structs import replace

from pilotmtc.errors import UsageError
from pilotmtc.model import CampaignId, Program, Template
from pilotmtc.protocol.client.campaigns import Submit
from pilotmtc.protocol.client.programs import GetProgram, LookAtProgram, SeenProgram, SetProgram
from pilotmtc.protocol.records import Filter
from pilotmtc.session.link import StoreLink
from pilotmtc.session.look.follow import get_campaigns
from pilotmtc.session.look.pages import pages
from pilotmtc.template import literal
from pilotmtc.template.programs import candidates, directory_of

_LOOKED_AT = 1000


class Programs:
    """Adds to the messages of a submission what is seen of the programs of new templates; git is asked once."""

    def __init__(self, link: StoreLink) -> None:
        self._link = link
        self._known: dict[int, Template] = {}  # by identity, which stays unique because they are kept
        self._program: Program | None = None
        self._told = False

    def look_ahead(self, template: Template) -> None:
        """Look at the programs of a template that is to come; raise as `seen` does."""
        self._look([template])

    def seen(self, message: Submit) -> Submit:
        """Return `message` with what is seen.

        Raises
        ------
        UsageError
            If a file that is to be watched cannot be read.
        """
        new = [template for template in message.templates if id(template) not in self._known]
        if new:
            self._look(new)
            self._told = False
        if self._told:
            return message
        self._told = True
        return replace(message, program=self._program)

    def _look(self, new: Sequence[Template]) -> None:
        self._known.update({id(template): template for template in new})
        seen = look(self._link, new, "" if self._program is not None else directory_of(new[0]))
        files = {} if self._program is None else self._program.files
        self._program = replace(self._program or seen.program, files=files | seen.program.files)


def look(link: StoreLink, templates: Sequence[Template], directory: str) -> SeenProgram:
    """Return what the store's host sees of the programs of `templates`.

    Raises
    ------
    UsageError
        If a file that is to be watched cannot be read.
    """
    named = dict.fromkeys(path for template in templates for path in template.watch)
    maybe = dict.fromkeys(path for template in templates for path in candidates(template))
    seen = link.call(LookAtProgram(directory, tuple(named), tuple(maybe)))
    if seen.unreadable:
        raise UsageError(_unreadable(seen))
    return seen


def _unreadable(seen: SeenProgram) -> str:
    path, why = next(iter(seen.unreadable.items()))
    more = f" ({len(seen.unreadable):,} files cannot)" if len(seen.unreadable) > 1 else ""
    return (
        f"{path}, whose content is watched, cannot be read on {seen.program.host}, the store's host: {why}{more}: "
        "name a file that is there"
    )


def look_again(
    link: StoreLink, campaign: CampaignId, *, new: Template | None = None, strict: bool = False
) -> Program | None:
    """Return what the store's host sees now of the programs of a campaign; None if it has no tasks.

    Parameters
    ----------
    new
        Look at the programs of this template as well.
    strict
        Raise `UsageError` if a file cannot be read; else its content counts as changed.
    """
    known = link.call(GetProgram(campaign))
    if known.template is None:
        return None
    before = known.program or Program(directory=directory_of(known.template))
    maybe = () if known.program is not None else candidates(known.template)
    files = tuple(before.files) or known.template.watch
    if new is not None:
        look(link, [new], "")  # raises if a file that is named cannot be read
        files += new.watch
        maybe += candidates(new if new.cwd is not None else replace(new, cwd=literal(before.directory)))
    seen = link.call(LookAtProgram(before.directory, files, maybe))
    if strict and seen.unreadable:
        raise UsageError(f"{_unreadable(seen)}, or run tasks again without asking what has changed")
    return seen.program


def note_programs(link: StoreLink, select: Filter, *, new: Template | None = None, changed: bool = False) -> None:
    """Have the store know what the selected tasks will run from now on.

    Parameters
    ----------
    new
        A template that they will have.
    changed
        The tasks whose programs have changed are wanted: raise `UsageError` if that cannot be known.
    """
    for campaign, program in look_all_again(link, select, new=new, changed=changed).items():
        link.call(SetProgram(campaign, program))


def look_all_again(
    link: StoreLink, select: Filter, *, new: Template | None = None, changed: bool = False
) -> dict[CampaignId, Program]:
    """Return what the selected tasks would run now, by campaign; see `note_programs`."""
    found: dict[CampaignId, Program] = {}
    for campaign in _campaigns_of(link, select):
        program = look_again(link, campaign, new=new, strict=changed)
        if changed and not (program and program.files):
            raise UsageError(
                f"campaign {campaign} names no program file, so what has changed is not known: choose the tasks by ids "
                "or conditions, and name files to watch when you submit the next one"
            )
        if program is not None:
            found[campaign] = program
    return found


def _campaigns_of(link: StoreLink, select: Filter) -> list[CampaignId]:
    """Return the campaigns of tasks; if they are not named, those of the newest `_LOOKED_AT` selected tasks."""
    if select.campaign is not None:
        words = select.campaign if isinstance(select.campaign, tuple) else (select.campaign,)
        return list(dict.fromkeys(one.id for word in words for one in get_campaigns(link, word)))
    tasks = next(pages(link, select, newest=True, size=_LOOKED_AT), ())
    return list(dict.fromkeys(task.campaign for task in tasks))
