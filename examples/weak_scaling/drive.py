"""What an engine's own Python runs: ``python -m weak_scaling.drive ENGINE DIRECTORY``.

It reads ``job.json`` of the directory and writes ``ran.json`` there, complete or not at all.
"""

import importlib
import json
import sys
from pathlib import Path

from .engines import ENGINES
from .workload import Job, Task


def main(name: str, directory: Path) -> None:
    """Run the job."""
    given = json.loads((directory / "job.json").read_text())
    module, _, function = ENGINES[name].driver.partition(":")
    drive = getattr(importlib.import_module(f".drivers.{module}", __package__), function)
    tasks = [Task(*row) for row in given.pop("tasks")]
    ran = drive(Job(directory=directory, tasks=tasks, **given))
    if ran is not None:
        written = directory / "ran.json.new"
        written.write_text(json.dumps(ran))
        written.rename(directory / "ran.json")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
