"""A fake pbsdsh, for PBS is in no registry of packages: what the programs of OpenPBS 23.06 and Torque 6 do, as far as a
pilot sees it.

It starts a command once for each line of the job's file of nodes; OpenPBS' with ``-n`` for one of them, Torque's with
``-u`` for each node once. What it starts is no child of its own (the daemon of the node starts it), has a host name of
its own and the variables of the daemon rather than the job's. It exits 0 whatever becomes of the command, and passes
signals on.
"""

import sys
from pathlib import Path

_PROGRAM = """#!{python} -I
import getopt, os, signal, subprocess, sys
kind, lines = {kind!r}, {lines!r}
with open({calls!r}, "a") as calls:
    calls.write(repr(sys.argv[1:]) + "\\n")
try:
    options, command = getopt.getopt(sys.argv[1:], "c:n:svo" if kind == "openpbs" else "c:e:h:n:osuvE")
except getopt.GetoptError as error:
    sys.exit(f"pbsdsh: {{error}}")
if "PBS_ENVIRONMENT" not in os.environ:
    sys.exit("pbsdsh: not executing under PBS")
numbers = list(range(len(lines)))
for option, value in options:
    if option == "-n":
        numbers = [int(value)]
    elif option == "-u":
        numbers = [lines.index(name) for name in dict.fromkeys(lines)]
os.environ.clear()
running = []

def bailout(number, frame):
    for process in running:
        os.killpg(process.pid, number)
    sys.exit(1)

for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
    signal.signal(number, bailout)
for number in numbers:
    env = {{
        "HOME": "/", "PATH": "/usr/bin:/bin", "PBS_ENVIRONMENT": "PBS_BATCH", "PBS_JOBID": "7.pbshost",
        "PBS_NODENUM": str(number), "PBS_TASKNUM": str(number + 2), "PBS_VNODENUM": str(number),
    }}
    words = ["unshare", "--uts", "sh", "-c", 'hostname "$0" && exec "$@"', lines[number], *command]
    running.append(subprocess.Popen(words, env=env, cwd="/", stdin=subprocess.DEVNULL, start_new_session=True))
for number, process in zip(numbers, running):
    if process.wait():
        print(f"pbsdsh: task 0x{{number:08X}} exit status {{process.returncode}}", flush=True)
"""


def write_pbsdsh(directory: Path, kind: str, lines: tuple[str, ...]) -> dict[str, str]:
    """Write the ``pbsdsh`` of ``openpbs`` or ``torque`` and a file of nodes; return the variables of a job there."""
    (directory / "bin").mkdir(parents=True)
    program = directory / "bin" / "pbsdsh"
    program.write_text(_PROGRAM.format(python=sys.executable, kind=kind, lines=lines, calls=str(directory / "calls")))
    program.chmod(0o755)
    nodes = directory / "nodes"
    nodes.write_text("".join(f"{line}\n" for line in lines))
    env = {
        "PBS_ENVIRONMENT": "PBS_BATCH",
        "PBS_EXEC": str(directory),
        "PBS_JOBID": "7.pbshost",
        "PBS_NODEFILE": str(nodes),
        "PILOTMTC_NETWORK": "127.0.0.1",
    }
    return env | {"PBS_NUM_NODES": str(len(set(lines)))} if kind == "torque" else env
