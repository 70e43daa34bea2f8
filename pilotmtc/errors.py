"""The error tree.

::

    PilotMTCError
    |- UsageError              the user asked for something that makes no sense      exit 2
    |  '- NotPermitted         whoever is connected may not ask for it
    |- ConfigError             a file, path or variable is wrong                     exit 2
    |  '- NoProgram            there is no pilotmtc on a host
    |- StoreError              the store cannot do it                                exit 3
    |  |- StoreBusy            another process has the file; try again   (transient)
    |  |- SchemaMismatch       the file is foreign, newer or damaged
    |  '- StoreMoved           the store is served by another host       (transient)
    |- TransportError          the way to the store                                  exit 4
    |  |- ConnectError         it could not be opened                    (transient)
    |  |  |- ConnectPostponed  a host takes no connections from here now (transient)
    |  |  '- LoginRefused      a host's login or identity: a person must act
    |  |     '- HostKeyRefused the host is not known to be the right one
    |  |- ChannelClosed        it ended in the middle                    (transient)
    |  '- ProtocolError        the two sides do not speak the same language
    |- AdaptorError            a scheduler                                           exit 5
    |  |- SubmitRejected       it said no
    |  |- JobUnknown           it does not know the job, or not any more
    |  '- StatusUnavailable    it could not be asked                     (transient)
    |     '- AnswerLost        it may have done what it was asked        (transient)
    |- StateError              a record cannot go that way                           exit 6
    |  |- InvalidTransition
    |  '- StaleAttempt
    '- TaskError               a task did not end well                               exit 1

Each class says whether trying again can help (``transient``) and which exit code the command line gives it
(``exit_code``). Foreign exceptions are wrapped where they enter, with ``raise ... from``.
"""

_SHOWN = 100


def shown(value: object) -> str:
    """Return a value as the text of an error shows it: not all of it if it is long."""
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."


class PilotMTCError(Exception):
    """Base of every error that pilotmtc raises on purpose. Its text says what to do."""

    transient = False
    exit_code = 3


class UsageError(PilotMTCError):
    """The request makes no sense: the text names the value and the remedy."""

    exit_code = 2


class NotPermitted(UsageError):
    """The way by which somebody has come to the store, such as a pilot's key, is not meant for that."""


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
    """The way to the store failed."""

    exit_code = 4


class ConnectError(TransportError):
    """The way to the store could not be opened."""

    transient = True


class ConnectPostponed(ConnectError):
    """A host takes no connections from here for a while: too many logins failed, or too many are under way."""


class LoginRefused(ConnectError):
    """A host does not let the user in, or is not known to be the right one.

    Trying again by itself would only get the user locked out: a person must act first.
    """

    transient = False


class HostKeyRefused(LoginRefused):
    """A host shows a key that is not the one it is known by."""


class ChannelClosed(TransportError):
    """The way to the store ended in the middle of a conversation."""

    transient = True


class ProtocolError(TransportError):
    """The other side sent what this version does not understand."""


class AdaptorError(PilotMTCError):
    """Something about a scheduler."""

    exit_code = 5


class SubmitRejected(AdaptorError):
    """The scheduler was asked and said no."""


class StatusUnavailable(AdaptorError):
    """The scheduler could not be asked: nothing is known about the job."""

    transient = True


class AnswerLost(StatusUnavailable):
    """The scheduler was asked to do something and its answer was lost: look before asking again."""


class JobUnknown(AdaptorError):
    """The scheduler was asked, and does not know the job, or not any more."""


class StateError(PilotMTCError):
    """A record cannot go from its state to the one asked for."""

    exit_code = 6


class InvalidTransition(StateError):
    """The transition table has no such pair."""


class StaleAttempt(StateError):
    """A message speaks of an attempt that is no longer the task's current one."""


class TaskError(PilotMTCError):
    """A task did not end well."""

    exit_code = 1
