"""GNU parallel, which starts the next line of its input whenever one has ended. It may be told of more slots later."""

import shlex
import subprocess

from ..workload import Job, Ran, command, read
from . import growing


def run(job: Job) -> list[Ran]:
    lines = [
        f'{shlex.join(command(task)[:4])} "$PARALLEL_JOBSLOT" {shlex.join(command(task)[5:])}\n' for task in job.tasks
    ]
    slots = job.directory / "slots"
    slots.write_text(f"{job.cores}\n")
    words = ["--will-cite", "-j", str(slots)]  # its notice about citing it would wait for an answer
    if job.retries:
        words += ["--retries", str(1 + job.retries), "--joblog", str(job.directory / "joblog"), "--resume"]
    with growing(job, lambda cores: slots.write_text(f"{job.cores + cores}\n")):
        done = subprocess.run(["parallel", *words], input="".join(lines), stdout=subprocess.PIPE, text=True, check=True)
    return read(done.stdout)
