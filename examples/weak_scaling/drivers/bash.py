"""A shell script for each core with its share of the tasks as lines, as `pbsdsh` starts one on each core of a job."""

import shlex
import subprocess

from ..workload import Job, Ran, command, read


def run(job: Job) -> list[Ran]:
    shares = []
    for number, block in enumerate(job.blocks):
        script = job.directory / f"{number}.sh"
        script.write_text("".join(f"{shlex.join(command(task, str(number)))}\n" for task in block))
        with script.with_suffix(".out").open("wb") as out:
            shares.append(subprocess.Popen(["bash", str(script)], stdout=out))
    for share in shares:
        share.wait()  # the whole run has a time limit
    return [ran for number in range(len(shares)) for ran in read((job.directory / f"{number}.out").read_text())]
