"""What tasks run: looking at programs, and noting what was seen."""

import os
import pwd
import socket
import stat

from msgspec.structs import replace

import pilotmtc
from pilotmtc.errors import UsageError
from pilotmtc.model import CampaignId, Program
from pilotmtc.protocol.base import Done
from pilotmtc.protocol.client.programs import CampaignProgram, GetProgram, LookAtProgram, SeenProgram, SetProgram
from pilotmtc.store.file.transaction import Transaction
from pilotmtc.store.requests.campaigns import check_campaign
from pilotmtc.store.requests.handlers import StoreFile, handles, handles_in_thread
from pilotmtc.system.digests import sha256
from pilotmtc.system.git import revision
from pilotmtc.template.programs import files_of

_BLOCK_BYTES = 1 << 20
_LARGEST_BYTES = 64 << 20  # of a program that nobody has named
_SCRIPTS = frozenset({".py", ".sh", ".bash", ".R", ".r", ".pl", ".jl", ".rb", ".js", ".lua", ".m", ".jar", ".awk"})
_SET = "UPDATE campaign SET program_id = ? WHERE id = ?"
_FIRST = """SELECT template_id FROM task WHERE id = (SELECT first_id FROM campaign WHERE id = ?1 AND received > 0)
    AND campaign_id = ?1"""


@handles_in_thread(LookAtProgram)
def look_at_program(_store: StoreFile, request: LookAtProgram) -> SeenProgram:
    """Look at programs on this host."""
    for path in (request.directory, *request.files):
        if "\0" in path:
            raise UsageError(f"{path!r} cannot be a file: its name has a NUL")
    files: dict[str, str] = {}
    unreadable: dict[str, str] = {}
    for path in request.files:
        try:
            files[path] = _digest(path)
        except OSError as error:
            files[path], unreadable[path] = "", error.strerror or str(error)
    for path in request.maybe:
        if path not in files and _is_program(path):
            try:
                files[path] = _digest(path)
            except OSError:  # may be executed, but not read
                continue
    commit, dirty = revision(request.directory) if request.directory else ("", False)
    host = socket.gethostname()
    return SeenProgram(
        Program(request.directory, host, _user(), pilotmtc.__version__, commit, dirty, files), unreadable
    )


def _digest(path: str) -> str:
    """Return the SHA-256 of a file's content, in hexadecimal."""
    with open(path, "rb", opener=_opener) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(0, "it is not a plain file")
        found = sha256()
        while block := file.read(_BLOCK_BYTES):
            found.update(block)
    return found.hexdigest()


def _opener(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)  # a pipe would wait for a writer


def _is_program(path: str) -> bool:
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return False
    runs = found.st_mode & 0o111 or os.path.splitext(path)[1] in _SCRIPTS
    return stat.S_ISREG(found.st_mode) and bool(runs) and found.st_size <= _LARGEST_BYTES


def _user() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # there is only the number
        return str(os.getuid())


@handles(GetProgram)
def get_program(tx: Transaction, request: GetProgram) -> CampaignProgram:
    """Return what is known of the programs of a campaign."""
    check_campaign(tx, request.campaign)
    row = tx.execute(_FIRST, (request.campaign,)).fetchone()
    return CampaignProgram(program_of(tx, request.campaign), None if row is None else tx.caches.templates.get(row[0]))


def program_of(tx: Transaction, campaign: int) -> Program | None:
    """Return what was seen last of the programs of a campaign; None if nothing was."""
    known = tx.caches.program_of.get(campaign)
    return None if known is None else tx.caches.programs.get(known)


@handles(SetProgram)
def set_program(tx: Transaction, request: SetProgram) -> Done:
    """Note what was seen of the programs of a campaign."""
    check_campaign(tx, request.campaign)
    note_program(tx, request.campaign, request.program)
    tx.wakeups.changed()
    return Done()


def note_program(tx: Transaction, campaign: CampaignId, program: Program) -> None:
    """Note what was seen: attempts that are claimed from now on run this."""
    known = program_of(tx, campaign)
    if known is not None:
        program = replace(program, files={**known.files, **program.files})
    id_ = tx.caches.programs.intern(program)
    tx.execute(_SET, (id_, campaign))
    tx.caches.program_of[campaign] = id_


def is_changed(tx: Transaction, campaign: CampaignId, template: int, version: int | None) -> bool:
    """Return whether a task of the campaign would run something else now than its newest attempt did.

    It would not as far as is known if nothing is known of what it ran, or if no files count for it.
    """
    now = program_of(tx, campaign)
    if not version or now is None:
        return False
    ran, seen = tx.caches.versions.parts(version)
    if ran != template:
        return True
    shared = tx.caches.templates.get(template)
    return bool(seen) and files_of(shared, tx.caches.programs.get(seen)) != files_of(shared, now)
