"""Which proofs are offered, and when it is enough; what is remembered."""

from collections.abc import Sequence

import pytest

from pilotmtc.errors import LoginRefused
from pilotmtc.transport.ask import RememberedAnswers, lasts, plain
from pilotmtc.transport.ssh.login import MAX_KEYS, MAX_QUESTIONS, Answer, Candidate, Login, Outcome

ALL = frozenset({"publickey", "keyboard-interactive", "password"})
IN = Outcome(done=True)
NO = Outcome(done=False)


class House:
    """A host that wants a list of proofs, one after the other."""

    def __init__(self, *wants: tuple[str, str]) -> None:
        self.wants = list(wants)
        self.seen: list[str] = []

    def _offered(self) -> frozenset[str]:
        return frozenset({self.wants[0][0]})

    def _show(self, method: str, proof: str) -> Outcome:
        self.seen.append(f"{method} {proof}")
        if self.wants[0] != (method, proof):
            return NO
        del self.wants[0]
        return Outcome(done=False, further=True, methods=self._offered()) if self.wants else IN

    def none(self) -> Outcome:
        return Outcome(done=False, methods=self._offered()) if self.wants else IN

    def key(self, key: str) -> Outcome:
        return self._show("publickey", key)

    def password(self, password: str) -> Outcome:
        return self._show("password", password)

    def interactive(self, answer: Answer) -> Outcome:
        answer("", "", [])
        return self._show(
            "keyboard-interactive", ",".join(answer("Welcome", "", [("Password: ", False), ("Code: ", True)]))
        )


class Person:
    def __init__(self, *answers: str) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    def __call__(self, prompts: Sequence[str], echo: Sequence[bool]) -> Sequence[str]:
        self.asked += prompts
        return [self.answers.pop(0) for _ in prompts]


def login(house: House, keys: Sequence[str] = (), *answers: str, allowed: frozenset[str] = ALL) -> Login[str]:
    candidates = [Candidate(key, lambda key=key: key) for key in keys]  # type: ignore[misc]
    return Login(house, "me@host", candidates, RememberedAnswers(Person(*answers)), allowed)


def test_open_door_needs_nothing() -> None:
    login(House()).run()


def test_keys_are_tried_in_order_and_then_no_more() -> None:
    house = House(("publickey", "b"))
    login(house, ["a", "b", "c"]).run()
    assert house.seen == ["publickey a", "publickey b"]


def test_several_factors_are_given_one_after_the_other() -> None:
    house = House(("publickey", "a"), ("keyboard-interactive", "secret,123"), ("password", "other"))
    login(house, ["a"], "secret", "123", "other").run()
    assert len(house.seen) == 3


def test_no_more_keys_than_a_host_endures() -> None:
    house = House(("publickey", "never"))
    with pytest.raises(LoginRefused, match="IdentitiesOnly"):
        login(house, [str(number) for number in range(20)]).run()
    assert len(house.seen) == MAX_KEYS


def test_no_more_questions_than_a_host_endures() -> None:
    house = House(("password", "right"))
    with pytest.raises(LoginRefused, match="wants: password; tried: password"):
        login(house, [], *["wrong"] * 10).run()
    assert len(house.seen) == MAX_QUESTIONS


def test_what_the_configuration_forbids_is_not_tried() -> None:
    house = House(("password", "right"))
    with pytest.raises(LoginRefused, match="there is nothing to try"):
        login(house, ["a"], "right", allowed=frozenset({"publickey"})).run()
    assert house.seen == []


def test_keys_that_cannot_be_used_do_not_count() -> None:
    house = House(("publickey", "good"))
    keys: list[Candidate[str]] = [Candidate(str(number), lambda: None) for number in range(20)]
    Login(house, "me@host", [*keys, Candidate("good", lambda: "good")], RememberedAnswers(Person()), ALL).run()
    assert house.seen == ["publickey good"]


def test_password_is_remembered_and_code_is_not() -> None:
    person = Person("secret", "1", "2")
    memory = RememberedAnswers(person)
    for code in ("1", "2"):
        Login(House(("keyboard-interactive", f"secret,{code}")), "me@host", iter(()), memory, ALL).run()
    assert person.asked == ["Welcome\n(me@host) Password: ", "(me@host) Code: ", "Welcome\n(me@host) Code: "]


def test_remembered_password_that_is_wrong_is_asked_anew() -> None:
    person = Person("old", "new")
    memory = RememberedAnswers(person)
    Login(House(("password", "old")), "me@host", iter(()), memory, ALL).run()
    house = House(("password", "new"))
    Login(house, "me@host", iter(()), memory, ALL).run()
    assert house.seen == ["password old", "password new"]
    Login(House(("password", "new")), "me@host", iter(()), memory, ALL).run()
    assert len(person.asked) == 2


def test_one_host_s_password_is_not_shown_to_another() -> None:
    memory = RememberedAnswers(Person("first", "second"))
    assert memory.answer("a@b", [("Password: ", False)]) == ["first"]
    assert memory.answer("c@d", [("Password: ", False)]) == ["second"]


@pytest.mark.parametrize(
    ("prompt", "lasting"),
    [
        ("Password: ", True),
        ("mtc's password:", True),
        ("Passwort:", True),
        ("One-time password (OATH) for `me': ", False),
        ("Verification code: ", False),
        ("Password + OTP: ", False),
        ("Passcode or option (1-3): ", False),
        ("Enter PIN for token: ", False),
        ("", False),
    ],
)
def test_only_lasting_answers_are_kept(prompt: str, lasting: bool) -> None:
    assert lasts(prompt) is lasting


def test_what_a_host_says_cannot_steer_the_terminal() -> None:
    assert plain("Pass\x1b[2Jword\r\x07: \u202e") == "Pass[2Jword: "
