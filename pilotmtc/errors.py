"""The error tree.

::

    PilotMTCError
    |- UsageError              the user asked for something invalid                  exit 2
    |  '- NotPermitted         this connection may not ask for it
    |- ConfigError             a file, path or variable is wrong                     exit 2
    |  '- NoProgram            there is no pilotmtc on a host
    |- StoreError              the store cannot do it                                exit 3
    |  |- StoreBusy            another process has the file; try again   (transient)
    |  |- SchemaMismatch       the file is foreign, newer or damaged
    |  '- StoreMoved           the store is served by another host       (transient)
    |- TransportError          the connection to the store                           exit 4
    |  |- ConnectError         it could not be opened                    (transient)
    |  |  |- ConnectPostponed  a host refuses connections for a while    (transient)
    |  |  '- LoginRefused      a host's login or identity: a person must act
    |  |     '- HostKeyRefused the host's key is unknown or wrong
    |  |- ChannelClosed        it ended while it was in use              (transient)
    |  '- ProtocolError        the two sides do not speak the same language
    |- AdaptorError            a scheduler                                           exit 5
    |  |- SubmitRejected       it refused
    |  |- JobUnknown           it does not know the job
    |  '- StatusUnavailable    it could not be asked                     (transient)
    |     '- AnswerLost        it may have done what it was asked        (transient)
    |- StateError              a record cannot change to that state                  exit 6
    |  |- InvalidTransition
    |  '- StaleAttempt
    '- TaskError               a task did not succeed                                exit 1
       '- TaskFailed           a call ended without a value or an exception of its own

Each class says whether trying again can help (``transient``) and which exit code the command line gives it
(``exit_code``). Foreign exceptions are wrapped where they enter, with ``raise ... from``.
"""

from collections.abc import Iterable
from typing import Any

_SHOWN = 100


def near(word: str, known: Iterable[str]) -> str:
    """Return the known word for which `word` is probably meant; empty if none is near."""
    import difflib  # only errors need it

    names = {name.lower(): name for name in known}
    low = word.lower()
    if close := difflib.get_close_matches(low, names, 1, 0.7):
        return names[close[0]]
    begun = [name for name in names if min(len(name), len(low)) > 2 and (name.startswith(low) or low.startswith(name))]
    return names[begun[0]] if len(begun) == 1 else ""


def shown(value: object) -> str:
    """Return a value for the text of an error, shortened if it is long."""
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."


class PilotMTCError(Exception):
    """Base of every error that pilotmtc raises on purpose. Its text says what to do."""

    transient = False
    exit_code = 3


class UsageError(PilotMTCError):
    """The request is invalid; the text names the value and the remedy."""

    exit_code = 2


class NotPermitted(UsageError):
    """A connection may not ask for this, such as one that was opened with a pilot's key."""


class ConfigError(PilotMTCError):
    """A configuration file, a path or an environment variable is wrong."""

    exit_code = 2


class NoProgram(ConfigError):
    """A host's login does not find pilotmtc."""


class StoreError(PilotMTCError):
    """The store cannot do what was asked."""

    exit_code = 3


class StoreBusy(StoreError):
    """Another process has the store's file."""

    transient = True


class SchemaMismatch(StoreError):
    """The file is not a store, is damaged, or was made by a newer pilotmtc."""


class StoreMoved(StoreError):
    """Another host serves this store; the text begins with ``moved: HOST:``."""

    transient = True

    @property
    def host(self) -> str:
        """The host that the text names."""
        return str(self).removeprefix("moved: ").partition(": ")[0]


class TransportError(PilotMTCError):
    """The connection to the store failed."""

    exit_code = 4


class ConnectError(TransportError):
    """The connection to the store could not be opened."""

    transient = True


class ConnectPostponed(ConnectError):
    """A host refuses connections for a while: too many logins have failed, or too many are in progress."""


class LoginRefused(ConnectError):
    """A host refuses the login, or its identity is not known.

    It must not be repeated automatically, which could lock the account: a person must act first.
    """

    transient = False


class HostKeyRefused(LoginRefused):
    """A host's key is unknown, or is not the one in ``known_hosts``."""


class ChannelClosed(TransportError):
    """The connection to the store ended while it was in use."""

    transient = True


class ProtocolError(TransportError):
    """The other side sent something that this version does not understand."""


class AdaptorError(PilotMTCError):
    """An error of a scheduler."""

    exit_code = 5


class SubmitRejected(AdaptorError):
    """The scheduler refused."""


class StatusUnavailable(AdaptorError):
    """The scheduler could not be asked: nothing is known about the job."""

    transient = True


class AnswerLost(StatusUnavailable):
    """The scheduler may have done what it was asked, but its answer was lost: check before asking again."""


class JobUnknown(AdaptorError):
    """The scheduler does not know the job, or no longer knows it."""


class StateError(PilotMTCError):
    """A record cannot change from its state to the requested one."""

    exit_code = 6


class InvalidTransition(StateError):
    """The transition table does not contain this pair."""


class StaleAttempt(StateError):
    """A message is about an attempt that is no longer the task's current one."""


class TaskError(PilotMTCError):
    """A task did not succeed."""

    exit_code = 1


class TaskFailed(TaskError):
    """A call of a function ended without a value and without an exception of its own.

    Attributes
    ----------
    task, attempt
        Which task, and the attempt that ended last; 0 if it was not begun.
    cause
        The name of the last attempt's `pilotmtc.states.Cause`, as ``SIGNAL``; or ``SKIPPED``, for a call whose input
        failed.
    returncode, node
        Of that attempt, as far as there are any: as in `subprocess`, its worker's exit code, or minus the number of the
        signal that killed it.
    """

    def __init__(self, text: str, **facts: Any) -> None:
        super().__init__(text)
        self.task: int = 0
        self.attempt: int = 0
        self.cause: str = ""
        self.returncode: int | None = None
        self.node: str = ""
        self.__dict__.update(facts)
