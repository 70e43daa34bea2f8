"""Asks the user on the terminal, and remembers answers that may be used again."""

import os
import re
import select
import termios
import threading
import time
from collections.abc import Callable, Sequence

from pilotmtc.errors import LoginRefused
from pilotmtc.transport.link import Ask

# Login nodes wait at most two minutes.
ANSWER_TIMEOUT_S = 110.0
_LONGEST_ANSWER = 4096
_POLL_S = 0.2
_LASTING = re.compile(r"pass(word|wort|code for key|phrase)|kennwort|mot de passe|contrase|senha", re.IGNORECASE)
_PASSING = re.compile(r"one.?time|otp|token|verif|code|\bpin\b|duo|factor|authenticator|einmal", re.IGNORECASE)
# One question at a time, because there is one terminal.
_terminal_lock = threading.Lock()


class RememberedAnswers:
    """Asks, and remembers passwords (never one-time codes) for later connections of this process.

    Parameters
    ----------
    ask
        How to ask.
    """

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._known: dict[tuple[str, str], str] = {}
        self._used: set[tuple[str, str]] = set()

    def answer(self, who: str, prompts: Sequence[tuple[str, bool]], introduction: str = "") -> list[str]:
        """Return the answers to prompts (text, echo) for the login `who`."""
        answers: dict[int, str] = {}
        missing = []
        for index, (prompt, _) in enumerate(prompts):
            key = who, prompt
            if key in self._known and key not in self._used:
                self._used.add(key)
                answers[index] = self._known[key]
            else:
                missing.append(index)
        if missing:
            texts = [f"({who}) {plain(prompts[index][0]) or 'Answer: '}" for index in missing]
            if introduction := plain(introduction).strip():
                texts[0] = f"{introduction}\n{texts[0]}"
            given = self._ask(texts, [prompts[index][1] for index in missing])
            if len(given) != len(missing):
                raise LoginRefused(f"{len(missing)} answers were asked for {who}, and {len(given)} came")
            for index, text in zip(missing, given, strict=True):
                answers[index] = text
                prompt, echo = prompts[index]
                if not echo and lasts(prompt):
                    self._known[who, prompt] = text
                    self._used.add((who, prompt))  # if the host asks again now, the answer was wrong
        return [answers[index] for index in range(len(prompts))]

    def begin(self, who: str) -> None:
        """Note that a new connection to `who` begins: each known answer may be used once."""
        self._used = {key for key in self._used if key[0] != who}

    def forget(self, who: str) -> None:
        """Forget the answers for `who`, which were wrong."""
        self._known = {key: text for key, text in self._known.items() if key[0] != who}


def lasts(prompt: str) -> bool:
    """Return whether the answer to `prompt` is valid for more than one login."""
    return bool(_LASTING.search(prompt)) and not _PASSING.search(prompt)


def plain(text: str) -> str:
    """Return a host's text without control characters."""
    return "".join(char for char in text if char in "\n\t" or char.isprintable())


def terminal_ask(is_over: Callable[[], bool]) -> Ask:
    """Return an `Ask` that uses ``/dev/tty`` until `is_over` returns true."""

    def ask(prompts: Sequence[str], echo: Sequence[bool]) -> list[str]:
        with _terminal_lock:
            try:
                terminal = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
            except OSError as error:
                raise LoginRefused(
                    f"the login needs an answer ({prompts[0].strip()}) and there is no terminal to ask on: use a key "
                    f"that needs no passphrase or is in an SSH agent, or a shared connection (ControlMaster) with "
                    f"?transport=openssh"
                ) from error
            try:
                if os.tcgetpgrp(terminal) != os.getpgrp():
                    raise LoginRefused(f"{prompts[0].strip()}: cannot be asked from the background")
                return [_ask_one(terminal, prompt, shown, is_over) for prompt, shown in zip(prompts, echo, strict=True)]
            finally:
                os.close(terminal)

    return ask


def _ask_one(terminal: int, prompt: str, shown: bool, is_over: Callable[[], bool]) -> str:
    before = termios.tcgetattr(terminal)
    during = termios.tcgetattr(terminal)
    during[3] |= termios.ICANON | termios.ECHO
    if not shown:
        during[3] &= ~termios.ECHO
    try:
        # Drop what was typed before the question.
        termios.tcsetattr(terminal, termios.TCSAFLUSH, during)
        os.write(terminal, prompt.encode("utf-8", "replace"))
        line = _read_line(terminal, is_over)
        if not shown:
            os.write(terminal, b"\n")
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)
    if line is None:
        raise LoginRefused(f"{prompt.strip()}: nobody answered")
    return line


def _read_line(terminal: int, is_over: Callable[[], bool]) -> str | None:
    deadline = time.monotonic() + ANSWER_TIMEOUT_S
    line = b""
    while not line.endswith(b"\n"):
        if is_over() or time.monotonic() > deadline or len(line) > _LONGEST_ANSWER:
            return None
        if not select.select([terminal], [], [], _POLL_S)[0]:
            continue
        data = os.read(terminal, _LONGEST_ANSWER)
        if not data:  # Ctrl-D
            return None
        line += data
    return line.rstrip(b"\r\n").decode("utf-8", "surrogateescape")
