"""HyperQueue: its server and workers, as its wheel starts them, with the tasks as programs of one job."""

from typing import Any

from ..workload import Job, Ran, command, read
from . import growing


def run(job: Job) -> list[Ran]:
    from hyperqueue import Job as Batch  # type: ignore[import-not-found]
    from hyperqueue import LocalCluster
    from hyperqueue.cluster import WorkerConfig  # type: ignore[import-not-found]
    from hyperqueue.ffi.protocol import ResourceRequest  # type: ignore[import-not-found]

    with LocalCluster(str(job.directory / "server"), WorkerConfig(cores=job.cores)) as cluster:
        client = cluster.client()
        batch = Batch(job.directory)
        made: dict[int, Any] = {}
        for task in job.tasks:
            made[task.number] = batch.program(
                command(task), stdout=job.directory / f"{task.number}.out",
                deps=[made[number] for number in task.after], resources=ResourceRequest(cpus=task.cores),
            )  # fmt: skip
        with growing(job, lambda cores: cluster.start_worker(WorkerConfig(cores=cores))):
            client.wait_for_jobs([client.submit(batch)])
    return [ran for task in job.tasks for ran in read((job.directory / f"{task.number}.out").read_text())]
