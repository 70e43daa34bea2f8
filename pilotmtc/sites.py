"""Sites: machines with a scheduler, as users describe them in ``sites.toml``."""

import os
import re
import shutil
import tomllib
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from pilotmtc import scheduler_words
from pilotmtc.errors import ConfigError, UsageError
from pilotmtc.system import private_files
from pilotmtc.transport.ssh.url import SshTarget, parse_url
from pilotmtc.units import parse_duration, parse_memory

LOCAL = "local"  # this machine without a scheduler; it always exists
SAME_HOST = "-"  # as a login: the nodes are the store's own host
STORE = "~/.pilotmtc/store.db"
# A command that only this scheduler has, in the order in which to look for them.
SCHEDULERS = {"slurm": "sbatch", "moab": "msub", "pbs": "qsub", "condor": "condor_submit"}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_NAMES = ("queue", "reservation")
# Fields that are one word for a scheduler. Others may be lines: an account in PBS, a constraint in HTCondor.
_ONE_WORD = {"slurm": (*_NAMES, "account", "qos", "constraint")}
_WORDS = (
    "queue",
    "account",
    "qos",
    "constraint",
    "reservation",
    "login",
    "scheduler",
    "host",
    "store",
    "command",
    "python",
)


class Site(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """A machine with a scheduler. Besides its name, the fields are the keys of ``sites.toml``.

    Attributes
    ----------
    host
        ``[user@]host[:port]`` as for ``ssh``; empty is this machine.
    scheduler
        ``slurm``, ``pbs``, ``moab``, ``condor``, ``local``, or a SAGA URL.
    store
        The store's file there.
    command
        The pilotmtc there; set by ``site deploy``.
    python
        The interpreter of function workers there; empty is that of its pilotmtc.
    config, identity, transport
        As in an ``ssh://`` URL.
    login
        How the site's nodes reach the store's host, ``[user@]host[:port]``; empty: its own name; ``-``: without SSH,
        which is the default without a scheduler.
    setup
        Lines of shell for each job before the agent starts.
    walltime, nodes, cores, gpus, memory, queue, account, qos, constraint, reservation, exclusive, idle
        Defaults for pilots; cores, gpus and memory are per node.
    """

    name: str = ""
    host: str = ""
    scheduler: str = "slurm"
    store: str = ""
    command: str = ""
    python: str = ""
    config: str = ""
    identity: str = ""
    transport: str = ""
    login: str = ""
    setup: tuple[str, ...] = ()
    walltime: str = ""
    nodes: int = 1
    cores: int = 0
    gpus: int = 0
    memory: str = ""
    queue: str = ""
    account: str = ""
    qos: str = ""
    constraint: str = ""
    reservation: str = ""
    exclusive: bool = False
    idle: str = ""

    def __post_init__(self) -> None:
        """Without a scheduler, let pilots run on the store's own host."""
        if not self.login and self.scheduler.partition(":")[0] == LOCAL:
            msgspec.structs.force_setattr(self, "login", SAME_HOST)

    @property
    def target(self) -> SshTarget | None:
        """How to reach it; None for this machine."""
        if not self.host:
            return None
        path = self.store or STORE
        url = f"ssh://{self.host}/{path.lstrip('/') if path.startswith('~') else path}"
        return msgspec.structs.replace(
            parse_url(url if path.startswith(("~", "/")) else f"ssh://{self.host}/~/{path}"),
            command=self.command or None,
            config=_expanded(self.config),
            identity=_expanded(self.identity),
            transport=self.transport or "paramiko",
        )

    @property
    def url(self) -> str | None:
        """The URL of its store; None: the user's default store on this machine."""
        return str(self.target) if self.host else self.store or None

    @property
    def scheduler_url(self) -> str:
        """SAGA's URL of its scheduler, from the point of view of the store's host."""
        return scheduler_url(self.scheduler)


def scheduler_url(word: str) -> str:
    """Return the SAGA URL of a scheduler on the store's host, given its name or URL.

    Raises
    ------
    UsageError
        If it is neither.
    """
    if "://" in word:
        return word
    if not re.fullmatch(r"[a-z][a-z0-9+]*", word):
        raise UsageError(f"{word!r} is not a known scheduler: use one of {', '.join(SCHEDULERS)}, or give a SAGA URL")
    return f"{word}://localhost/"


def check_word(key: str, value: str, scheduler: str) -> None:
    """Raise `UsageError` if a queue, account or the like is not valid for the scheduler with this name or URL.

    Dialects refuse the same values, but only when a job is submitted, and then there is a pilot already.
    """
    if key in _ONE_WORD.get(scheduler.partition(":")[0], _NAMES):
        scheduler_words.word(key, value)
    elif value != SAME_HOST:
        scheduler_words.line(key, value)


def find_scheduler() -> str:
    """Return the name of the scheduler whose commands are on this machine's PATH.

    Raises
    ------
    ConfigError
        If there is none.
    """
    for name, program in SCHEDULERS.items():
        if shutil.which(program):
            return name
    raise ConfigError(
        f"no scheduler is found here: none of {', '.join(SCHEDULERS.values())} is on PATH; name one with --scheduler, "
        "or a site with --site"
    )


def config_path() -> Path:
    """Return the path of ``sites.toml``."""
    home = os.environ.get("XDG_CONFIG_HOME", "")
    return (Path(home) if os.path.isabs(home) else Path("~/.config").expanduser()) / "pilotmtc" / "sites.toml"


def read_sites() -> dict[str, Site]:
    """Return all sites by name.

    Raises
    ------
    ConfigError
        If the file is wrong; the text names file, line and key.
    """
    path = config_path()
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error
    try:
        tables = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError, ValueError) as error:
        raise ConfigError(f"{path} is no TOML: {error}") from error
    sites = {}
    for name, table in tables.items():
        if not isinstance(table, dict):
            raise ConfigError(
                f"{_place(path, text, '', name)}: {name!r} belongs into a site's table, below a [NAME] line"
            )
        try:
            sites[name] = make_site(name, table)
        except (UsageError, ConfigError, _BadKey, RecursionError) as error:
            key = error.key if isinstance(error, _BadKey) else ""
            raise ConfigError(f"{_place(path, text, name, key)}: site {name}: {error}") from error
    return sites


def get_site(name: str) -> Site:
    """Return the site with this name.

    Raises
    ------
    UsageError
        If there is none.
    """
    sites = read_sites()
    if name not in sites:
        known = ", ".join(sites) if sites else "none yet"
        raise UsageError(f"there is no site {name!r} ({known}): `pilotmtc site add {name} user@host` makes it known")
    return sites[name]


class _BadKey(ConfigError):
    """The value of a key is wrong."""

    def __init__(self, key: str, words: str) -> None:
        super().__init__(f"{key}: {words}" if key else words)
        self.key = key


def make_site(name: str, table: dict[str, Any]) -> Site:
    """Return the site described by the keys in `table`.

    Raises
    ------
    ConfigError
        If a key or a value is wrong; the text names it.
    """
    if not _NAME.fullmatch(name) or name == LOCAL:
        raise _BadKey("", f"{name!r} cannot be a site's name: letters, digits, '.', '_' and '-', and not {LOCAL!r}")
    known = {field.name for field in msgspec.structs.fields(Site)} - {"name"}
    for key in table:
        if key not in known:
            raise _BadKey(key, f"there is no such key; there are {', '.join(sorted(known))}")
    try:
        site = msgspec.convert({**table, "name": name}, Site)
    except msgspec.ValidationError as error:
        key = str(error).rpartition("$.")[2].rstrip("`").partition("[")[0] if "$." in str(error) else ""
        raise _BadKey(key, str(error).partition(" - at")[0]) from error
    for key in _WORDS:
        try:
            check_word(key, getattr(site, key), site.scheduler)
        except UsageError as error:
            raise _BadKey(key, str(error).removeprefix(f"{key} ")) from error
    for key, least in (("nodes", 1), ("cores", 0), ("gpus", 0)):
        if getattr(site, key) < least:
            raise _BadKey(key, f"{getattr(site, key)} is too few: give {least} or more")
    _checked("walltime", lambda: parse_duration(site.walltime or 0))
    _checked("idle", lambda: parse_duration(site.idle or 0))
    _checked("memory", lambda: parse_memory(site.memory or 0))
    _checked("scheduler", lambda: site.scheduler_url)
    _checked("host", lambda: site.target)
    return site


def _checked(key: str, look: Any) -> None:
    try:
        look()
    except (UsageError, ConfigError) as error:
        raise _BadKey(key, str(error)) from error


def _place(path: Path, text: str, site: str, key: str) -> str:
    """Return file and line of a site's key, if it can be found."""
    inside = not site
    for number, line in enumerate(text.splitlines(), 1):
        head = re.match(r"\s*\[\s*[\"']?([^\"'\]]+?)[\"']?\s*\]", line)
        if head:
            inside = head[1] == site
            if inside and not key:
                return f"{path}, line {number}"
        elif inside and key and re.match(rf"\s*[\"']?{re.escape(key)}[\"']?\s*=", line):
            return f"{path}, line {number}"
    return str(path)


def save_site(site: Site) -> None:
    """Write a site into the file; everything else in the file stays, comments included.

    Raises
    ------
    ConfigError
        If it cannot be written.
    """
    import tomlkit

    document = _document()
    table = tomlkit.table()
    for key, value in msgspec.to_builtins(site).items():
        if key != "name":
            table[key] = value
    old = document.get(site.name)
    if isinstance(old, dict):  # keeps its comments
        for key in [key for key in old if key not in table]:
            del old[key]
        old.update(table)
    else:
        document[site.name] = table
    _write(tomlkit.dumps(document))


def remove_site(name: str) -> None:
    """Remove a site from the file; nothing changes on the site itself.

    Raises
    ------
    UsageError
        If there is none of that name.
    """
    import tomlkit

    get_site(name)
    document = _document()
    del document[name]
    _write(tomlkit.dumps(document))


def _document() -> Any:
    import tomlkit

    read_sites()  # raises if the file is broken, which must not be overwritten
    path = config_path()
    return tomlkit.parse(path.read_text(encoding="utf-8")) if path.exists() else tomlkit.document()


def _write(text: str) -> None:
    path = config_path()
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        private_files.make_above(path)
        part.write_text(text, encoding="utf-8")
        part.chmod(0o600)
        os.replace(part, path.resolve())  # the file may be a link into a repository of dot files
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}") from error


def _expanded(path: str) -> str | None:
    return os.path.abspath(os.path.expanduser(path)) if path else None
