"""A shell script for each core with its share of the tasks as lines, as `pbsdsh` starts one on each core of a job."""

import shlex
import subprocess

from ..workload import Job, Ran, command, read


def run(job: Job) -> list[Ran]:
    shares = []
    for number, block in enumerate(job.blocks):
        script = job.directory / f"{number}.sh"
        lines = [shlex.join(command(task, str(number))) for task in block]
        script.write_text("".join(" || ".join([line] * (1 + job.retries)) + "\n" for line in lines))
        with script.with_suffix(".out").open("wb") as out:
            shares.append(subprocess.Popen(["bash", str(script)], stdout=out))
    for share in shares:
        share.wait()  # the whole run has a time limit
    return [ran for number in range(len(shares)) for ran in read((job.directory / f"{number}.out").read_text())]
