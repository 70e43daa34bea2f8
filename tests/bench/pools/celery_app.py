"""What celery's workers import: the tasks, and where broker and results are."""

import os

from celery import Celery  # type: ignore[import-not-found]
from tasks import same, wait  # type: ignore[import-not-found]  # beside this file

_URL = os.environ["BENCH_REDIS"]
app = Celery("bench", broker=_URL, backend=_URL)
tasks = {function.__name__: app.task(function) for function in (same, wait)}
