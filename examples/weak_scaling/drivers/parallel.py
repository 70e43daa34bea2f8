"""GNU parallel, which starts the next line of its input whenever one has ended."""

import shlex
import subprocess

from ..workload import Job, Ran, command, read


def run(job: Job) -> list[Ran]:
    lines = [f'{shlex.join(command(task)[:-1])} "$PARALLEL_JOBSLOT"\n' for task in job.tasks]
    done = subprocess.run(
        ["parallel", "--will-cite", "-j", str(job.cores)],  # its notice about citing it would wait for an answer
        input="".join(lines), stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    return read(done.stdout)
