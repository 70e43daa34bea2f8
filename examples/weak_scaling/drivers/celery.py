"""Celery: workers that fork, and a Redis or RabbitMQ server of its own as broker.

Its workers import this module, too, and find the servers by ``$WEAK_SCALING_BROKER`` and ``$WEAK_SCALING_RESULTS``.
What is not default: a message is acknowledged when its task has ended, so that another worker gets what one has lost.
"""

import contextlib
import importlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from ..brokers import rabbitmq, redis
from ..workload import Job, Task, work_after
from . import Pool, dynamic

_BROKER, _RESULTS = "WEAK_SCALING_BROKER", "WEAK_SCALING_RESULTS"


def call(name: str, value: Any) -> Any:
    """Call the function that has a name, MODULE:FUNCTION."""
    module, _, function = name.partition(":")
    return getattr(importlib.import_module(module), function)(value)


def call_after(earlier: object, name: str, value: Any) -> Any:
    """Call it with what a chord gives: the results of those before it."""
    return call(name, value)


def _app(broker: str, results: str) -> Any:
    from celery import Celery  # type: ignore[import-not-found]

    app = Celery("weak_scaling", broker=broker, backend=results)
    app.conf.update(task_acks_late=True, task_reject_on_worker_lost=True, worker_prefetch_multiplier=1)
    for function in (call, call_after):
        app.task(function, name=function.__name__, autoretry_for=(Exception,), max_retries=2, default_retry_delay=0)
    return app


if _BROKER in os.environ:  # in the workers
    app = _app(os.environ[_BROKER], os.environ[_RESULTS])


def _pool(server: Callable[[Job], contextlib.AbstractContextManager[tuple[str, str]]]) -> Any:
    @contextlib.contextmanager
    def pool(job: Job) -> Iterator[Pool]:
        from celery import chord, group

        def signature(function: Callable[[Any], Any], value: Any) -> Any:
            return here.tasks["call"].s(f"{function.__module__}:{function.__name__}", value)

        def calls(function: Callable[[Any], Any], values: Iterable[Any]) -> Iterable[Any]:
            asked = group(signature(function, value) for value in values).apply_async()
            return asked.get(timeout=3600)  # type: ignore[no-any-return]

        def graph(tasks: list[Task]) -> object:
            found: dict[int, Any] = {}
            name = f"{work_after.__module__}:{work_after.__name__}"
            for task in tasks:
                before = [found[number] for number in task.after]
                own = here.tasks["call_after"].s(name, task) if before else signature(work_after, task)
                found[task.number] = chord(before, own) if before else own
            return found[tasks[-1].number].apply_async().get(timeout=3600)

        def start(cores: int, number: int = 0) -> None:
            words = f"worker -c {cores} -n {number}@localhost -l critical --without-gossip --without-mingle"
            process = subprocess.Popen(
                [sys.executable, "-m", "celery", "-A", __name__, *words.split(), "--without-heartbeat"],
                env=os.environ | {_BROKER: broker, _RESULTS: results}, cwd=job.directory,
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip
            ends.callback(process.wait, 60)
            ends.callback(process.terminate)

        with server(job) as (broker, results), contextlib.ExitStack() as ends:
            here = _app(broker, results)
            start(job.cores)
            yield Pool(
                calls, lambda function, value: signature(function, value).delay().get(timeout=60),
                graph=graph, grow=lambda cores: start(cores, 1),
            )  # fmt: skip

    return pool


pool = _pool(redis)
run = dynamic(pool)
run_rabbitmq = dynamic(_pool(rabbitmq))
