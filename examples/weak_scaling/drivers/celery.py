"""Celery: workers that fork, and a Redis server of its own as broker and for results.

Its workers import this module, too, and find the server by ``$WEAK_SCALING_REDIS``.
"""

import contextlib
import importlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from . import Pool, dynamic

_URL = "WEAK_SCALING_REDIS"


def redis() -> str | None:
    """Return a program that is Redis' server: Debian's redis-tools has it as redis-check-rdb, and starts nothing."""
    return shutil.which("redis-server") or shutil.which("redis-check-rdb")


def call(name: str, value: Any) -> Any:
    """Call the function that has a name, MODULE:FUNCTION."""
    module, _, function = name.partition(":")
    return getattr(importlib.import_module(module), function)(value)


if _URL in os.environ:  # in the workers
    from celery import Celery  # type: ignore[import-not-found]

    app = Celery("weak_scaling", broker=os.environ[_URL], backend=os.environ[_URL])
    task = app.task(call, name="call")


@contextlib.contextmanager
def pool(cores: int, directory: Path) -> Iterator[Pool]:
    from celery import Celery, group

    socket = directory / "redis.sock"
    url = f"redis+socket://{socket}"
    task = Celery("weak_scaling", broker=url, backend=url).task(call, name="call")

    def signature(function: Callable[[Any], Any], value: Any) -> Any:
        return task.s(f"{function.__module__}:{function.__name__}", value)

    def calls(function: Callable[[Any], Any], values: Iterable[Any]) -> Iterable[Any]:
        asked = group(signature(function, value) for value in values).apply_async()
        return asked.get(timeout=3600)  # type: ignore[no-any-return]

    # Which of its programs it is, Redis' server sees by the name that it is started with.
    server = ["redis-server", *f"--port 0 --unixsocket {socket} --dir {directory} --save".split(), ""]
    words = f"worker -c {cores} -l critical --without-gossip --without-mingle --without-heartbeat"
    worker = [sys.executable, "-m", "celery", "-A", __name__, *words.split()]
    with contextlib.ExitStack() as ends:
        for argv, program in ((server, redis()), (worker, None)):
            process = subprocess.Popen(
                argv, executable=program, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                env=os.environ | {_URL: url}, cwd=directory,
            )  # fmt: skip
            ends.callback(process.wait, 60)
            ends.callback(process.terminate)
        yield Pool(calls, lambda function, value: signature(function, value).delay().get(timeout=60))


run = dynamic(pool)
