"""HyperQueue: its server and one worker, as its wheel starts them, with the tasks as programs of one job."""

from ..workload import Job, Ran, command, read


def run(job: Job) -> list[Ran]:
    from hyperqueue import Job as Batch  # type: ignore[import-not-found]
    from hyperqueue import LocalCluster
    from hyperqueue.cluster import WorkerConfig  # type: ignore[import-not-found]

    with LocalCluster(str(job.directory / "server"), WorkerConfig(cores=job.cores)) as cluster:
        client = cluster.client()
        batch = Batch(job.directory)
        for task in job.tasks:
            batch.program(command(task), stdout=job.directory / f"{task.number}.out")
        client.wait_for_jobs([client.submit(batch)])
    return [ran for task in job.tasks for ran in read((job.directory / f"{task.number}.out").read_text())]
