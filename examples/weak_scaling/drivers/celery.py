"""Celery: workers that fork, and a Redis or RabbitMQ server of its own as broker.

Its workers import this module, too, and find the servers by ``$WEAK_SCALING_BROKER`` and ``$WEAK_SCALING_RESULTS``.
Not default: a message is acknowledged when its task has ended, so that another worker gets what one has lost.
"""

import contextlib
import importlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

from ..brokers import rabbitmq, redis
from ..workload import Job, Task, work
from . import OpenPool, Pool, dynamic

_BROKER, _RESULTS = "WEAK_SCALING_BROKER", "WEAK_SCALING_RESULTS"


def call(name: str, value: Any) -> Any:
    """Call the function that has a name, MODULE:FUNCTION."""
    module, _, function = name.partition(":")
    return getattr(importlib.import_module(module), function)(value)


def _app(broker: str, results: str) -> Any:
    from celery import Celery  # type: ignore[import-not-found]

    app = Celery("weak_scaling", broker=broker, backend=results)
    app.conf.update(task_acks_late=True, task_reject_on_worker_lost=True, worker_prefetch_multiplier=1)
    app.task(call, name="call", autoretry_for=(Exception,), max_retries=2, default_retry_delay=0)
    return app


if _BROKER in os.environ:  # in the workers
    app = _app(os.environ[_BROKER], os.environ[_RESULTS])


def _with(server: Callable[[Job], contextlib.AbstractContextManager[tuple[str, str]]]) -> OpenPool:
    @contextlib.contextmanager
    def pool(job: Job) -> Iterator[Pool]:
        from celery import chord, group

        def ask(function: Callable[[Any], Any], value: Any) -> Any:
            return task.si(f"{function.__module__}:{function.__name__}", value)

        def graph(tasks: list[Task]) -> object:
            found: dict[int, Any] = {}
            for each in tasks:
                before, own = [found[number] for number in each.after], ask(work, each)
                found[each.number] = chord(before, own) if before else own
            return found[tasks[-1].number].apply_async().get(timeout=3600)

        def start(cores: int, number: int = 0) -> None:
            words = f"-A {__name__} worker -c {cores} -n {number}@localhost -l critical --without-gossip".split()
            worker = subprocess.Popen(
                [sys.executable, "-m", "celery", *words, "--without-mingle", "--without-heartbeat"], cwd=job.directory,
                env=os.environ | addresses, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip
            ends.callback(worker.wait, 60)
            ends.callback(worker.terminate)

        with server(job) as (broker, results), contextlib.ExitStack() as ends:
            addresses, task = {_BROKER: broker, _RESULTS: results}, _app(broker, results).tasks["call"]
            start(job.cores)
            yield Pool(
                lambda function, values: group(ask(function, each) for each in values).apply_async().get(timeout=3600),
                lambda function, value: ask(function, value).delay().get(timeout=60),
                graph=graph, grow=lambda cores: start(cores, 1),
            )  # fmt: skip

    return pool


pool = _with(redis)
run = dynamic(pool)
run_rabbitmq = dynamic(_with(rabbitmq))
