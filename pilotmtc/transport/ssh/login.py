"""The order in which to try methods of authentication, and when to stop.

Pure except for the `Authentication`, so that it can be tested with hosts of all kinds.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Generic, Protocol, TypeVar

from msgspec import Struct

from pilotmtc.errors import LoginRefused
from pilotmtc.transport.ask import RememberedAnswers

# Most servers disconnect at the sixth failure; a password should be tried before that.
MAX_KEYS = 5
MAX_QUESTIONS = 3

K = TypeVar("K")
K_contra = TypeVar("K_contra", contravariant=True)
# Answers prompts (text, echo), given their title and instructions.
Answer = Callable[[str, str, Sequence[tuple[str, bool]]], list[str]]


class Outcome(Struct, frozen=True):
    """A host's answer to one method: logged in; or one of several steps done; or refused. `methods` None: unchanged."""

    done: bool
    further: bool = False
    methods: frozenset[str] | None = None


class Candidate(Struct, Generic[K], frozen=True):
    """A key to try. `load` returns None if it cannot be used."""

    name: str
    load: Callable[[], K | None]


class Authentication(Protocol[K_contra]):
    """The methods of authentication on a connection. Each raises `ConnectError` if the connection is lost."""

    def none(self) -> Outcome: ...  # noqa: D102
    def key(self, key: K_contra) -> Outcome: ...  # noqa: D102
    def interactive(self, answer: Answer) -> Outcome: ...  # noqa: D102
    def password(self, password: str) -> Outcome: ...  # noqa: D102


class Login(Generic[K]):
    """Logs in on one connection.

    Parameters
    ----------
    authentication
        The connection.
    who
        ``user@host``, for questions and errors.
    keys
        In the order in which to try them.
    memory
        Asks the user, and remembers answers.
    allowed
        The methods that the user's configuration allows.
    """

    def __init__(
        self,
        authentication: Authentication[K],
        who: str,
        keys: Iterable[Candidate[K]],
        memory: RememberedAnswers,
        allowed: frozenset[str],
    ) -> None:
        self._authentication = authentication
        self._who = who
        self._keys = iter(keys)
        self._memory = memory
        self._allowed = allowed
        self._questions_left = MAX_QUESTIONS
        self._mistaken = False  # an answer of the user was refused
        self._silent = False  # the host refuses keyboard-interactive without asking anything
        self._keys_left = MAX_KEYS
        self.tried: list[str] = []
        self.rejected = 0

    def run(self) -> None:
        """Log in.

        Raises
        ------
        LoginRefused
            If the host refuses all methods.
        """
        self._memory.begin(self._who)
        outcome = self._authentication.none()
        offered = outcome.methods or frozenset()
        while not outcome.done:
            next_outcome = self._try_one(offered)
            if next_outcome is None:
                self._memory.forget(self._who)
                raise LoginRefused(self._explain(offered))
            outcome = next_outcome
            self.rejected += not (outcome.done or outcome.further)
            offered = offered if outcome.methods is None else outcome.methods

    def _try_one(self, offered: frozenset[str]) -> Outcome | None:
        """Try the next method; return None if there is none left."""
        usable = offered & self._allowed
        if "publickey" in usable:
            while self._keys_left > 0 and (candidate := next(self._keys, None)) is not None:
                if (key := candidate.load()) is None:
                    continue
                self._keys_left -= 1
                self.tried.append(candidate.name)
                return self._authentication.key(key)
        for method, ask in (("keyboard-interactive", self._interactive), ("password", self._password)):
            if method in usable and self._questions_left > 0 and not (self._silent and ask == self._interactive):
                self._questions_left -= 1
                return ask()
        return None

    def _interactive(self) -> Outcome:
        asked = False

        def answer(title: str, instructions: str, prompts: Sequence[tuple[str, bool]]) -> list[str]:
            nonlocal asked
            if not prompts:
                return []
            asked = True
            return self._memory.answer(self._who, prompts, self._introduction(title, instructions))

        self.tried.append("answers")
        outcome = self._authentication.interactive(answer)
        self._mistaken = asked and not (outcome.done or outcome.further)
        if not asked and not outcome.done:
            self._silent = True
            self._questions_left += 1
        return outcome

    def _password(self) -> Outcome:
        self.tried.append("password")
        (password,) = self._memory.answer(self._who, [("Password: ", False)], self._introduction())
        outcome = self._authentication.password(password)
        self._mistaken = not (outcome.done or outcome.further)
        return outcome

    def _introduction(self, *words: str) -> str:
        again = "That was not accepted. Once more:" if self._mistaken else ""
        self._mistaken = False  # shown only once
        return "\n".join(filter(None, (again, *words)))

    def _explain(self, offered: frozenset[str]) -> str:
        wants = ", ".join(sorted(offered)) or "nothing that is supported"
        tried = ", ".join(dict.fromkeys(self.tried)) or "there is nothing to try"
        hint = ""
        if self._keys_left == 0:
            hint = f"; no more than {MAX_KEYS} keys are tried: name the right one with IdentityFile and IdentitiesOnly"
        elif "publickey" in offered and not self.tried:
            hint = "; add a key to your SSH agent or name one with IdentityFile in ~/.ssh/config"
        return (
            f"{self._who} refuses the login. It wants: {wants}; tried: {tried}{hint}. Check with `ssh`; nothing "
            "more is tried by itself, for many sites lock out who fails often"
        )
