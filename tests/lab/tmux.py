"""A terminal that a person might sit at: tmux, whose picture of the screen can be read back."""

import contextlib
import os
import shlex
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.lab.machine import ROOT, alone, install
from tests.support import wait_until

_TMUX = "/usr/bin/tmux"


class Tmux:
    """A shell in a tmux of its own."""

    def __init__(self, socket: Path, env: Mapping[str, str], size: tuple[int, int], here: Path) -> None:
        self._env = dict(env) | {"LC_ALL": "C.UTF-8"}
        self._words = [_TMUX, "-u", "-S", str(socket), "-f", "/dev/null"]
        width, height = map(str, size)
        self.ask("new-session", "-d", "-x", width, "-y", height, "-c", str(here), "sh")

    def ask(self, *words: str) -> str:
        """Return what a tmux command prints."""
        done = subprocess.run([*self._words, *words], env=self._env, capture_output=True, timeout=20, check=False)
        assert done.returncode == 0, f"tmux {shlex.join(words)}: {done.stderr.decode()}"
        return done.stdout.decode()

    def type(self, text: str) -> None:
        """Type a text."""
        self.ask("send-keys", "-l", "--", text)

    def press(self, *keys: str) -> None:
        """Press keys, by tmux's names: ``Enter``, ``Tab``, ``C-s``."""
        self.ask("send-keys", "--", *keys)

    def text(self) -> str:
        """Return the screen as it is now."""
        return self.ask("capture-pane", "-p")

    def raw(self) -> str:
        """Return the screen as it is now, with what makes it colourful."""
        return self.ask("capture-pane", "-p", "-e")

    def flags(self, *names: str) -> list[str]:
        """Return what tmux knows of the terminal."""
        return self.ask("display-message", "-p", " ".join(f"#{{{name}}}" for name in names)).split()

    def see(self, *words: str, timeout_s: float = 30.0) -> None:
        """Wait until all `words` are on the screen."""
        wait_until(lambda: all(word in self.text() for word in words), timeout_s, lambda: f"{words}\n{self.text()}")

    def close(self) -> None:
        """End the shell and what runs in it, as if the window had been closed."""
        with contextlib.suppress(AssertionError):  # it was closed before
            self.ask("kill-server")


@contextlib.contextmanager
def a_tmux(socket: Path, env: Mapping[str, str], size: tuple[int, int], here: Path) -> Iterator[Tmux]:
    """Give a shell in a tmux of its own, which is ended."""
    if ROOT:
        with alone():
            install({_TMUX: "tmux"})
    elif not os.path.exists(_TMUX):
        pytest.skip(f"there is no {_TMUX}: install tmux")
    tmux = Tmux(socket, env, size, here)
    try:
        yield tmux
    finally:
        tmux.close()
