"""Ctrl-C again and again, at every moment: a command ends with 130, and says nothing of Python's."""

import signal
import subprocess
import sys
import time

import pytest

from tests.user import User

# Children that run a short command, and are shot at from when they can take it until they have ended.
_MANY = """
import os, signal, sys
from pilotmtc.cli import app, interrupts, main
from pilotmtc.cli.output import streams
def ready(begin=interrupts.begin):
    begin()
    os.write(writing, b"x")
interrupts.begin = ready
sys.argv = ["pilotmtc", *sys.argv[1:]]
for n in range(100):
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        main()
    os.close(writing)
    os.read(reading, 1)
    os.close(reading)
    for _ in range(n):  # pass some time
        pass
    while os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        os.kill(child, signal.SIGINT)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, 130), code
"""


def test_command_that_gets_many_ends_as_with_one(user: User) -> None:
    env = user.env | {"PYTHONWARNINGS": ""}  # an import that is interrupted does leave files open
    argv = [sys.executable, "-c", _MANY, "store", "path"]
    done = subprocess.run(argv, env=env, cwd=user.here, capture_output=True, timeout=120, check=False)
    assert (done.returncode, done.stderr.strip()) == (0, b""), done.stderr.decode()


@pytest.mark.parametrize("pause_s", [0.0, 0.001, 0.02, 0.3])
def test_run_that_gets_many_ends_as_with_one(user: User, pause_s: float) -> None:
    run = user.start("run", "-j", "2", "echo {}; test {} = a || sleep 60", ":::", "a", "b", "c")
    assert run.stdout is not None
    assert run.stdout.readline() == b"a\n"
    until = time.monotonic() + 60.0
    while run.poll() is None and time.monotonic() < until:
        run.send_signal(signal.SIGINT)
        time.sleep(pause_s)
    _, said = run.communicate(timeout=30)
    assert run.returncode == 130, said
    assert b"Traceback" not in said
    assert b"ignored" not in said
