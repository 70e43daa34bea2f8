"""A headless Chromium: Debian's."""

import subprocess
import tempfile
from pathlib import Path

from tests.lab.machine import alone, install
from tests.support import patience_s

_CHROMIUM = "/usr/bin/chromium"
# As root there is no sandbox to be had; pages are our own, and have no network to use.
_OPTIONS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--disable-dev-shm-usage",
    "--virtual-time-budget=20000", "--window-size=1200,1600", "--proxy-server=127.0.0.1:9",
)  # fmt: skip


def _run(*words: str, page: str) -> bytes:
    with alone():
        install({_CHROMIUM: "chromium", "/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf": "fonts-dejavu-core"})
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        done = subprocess.run(
            [_CHROMIUM, *_OPTIONS, f"--user-data-dir={profile}", *words, page],
            capture_output=True, timeout=patience_s(120.0), check=False,
        )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"chromium exits with {done.returncode}: {done.stderr.decode(errors='replace')[-2000:]}")
    return done.stdout


def dom_of(file: Path, fragment: str = "") -> str:
    """Return the page as it is after its scripts have run."""
    return _run("--dump-dom", page=f"{file.as_uri()}{fragment}").decode()


def picture_of(file: Path, picture: Path) -> None:
    """Take a picture of the page."""
    _run(f"--screenshot={picture}", page=file.as_uri())
