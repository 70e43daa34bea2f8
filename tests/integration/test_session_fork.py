"""A session whose process forks, as multiprocessing does on Linux."""

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from pilotmtc.session import Session


def run(script: str, *words: str) -> str:
    """Run a Python script in a process of its own, which has no threads but those of its session."""
    argv = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", textwrap.dedent(script), *words]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def store(tmp_path: Path, surroundings: Path) -> str:
    with Session(tmp_path / "s.db") as session:
        session.submit("true", range(3))
    return str(tmp_path / "s.db")


def test_forked_workers_use_the_session_of_their_parent(store: str) -> None:
    script = """
        import multiprocessing, sys
        from pilotmtc.session import Session

        def count(n):
            return len(list(session.tasks()))

        session = Session(sys.argv[1])
        print(count(0))
        with multiprocessing.get_context("fork").Pool(2) as pool:
            print(pool.map(count, range(4), chunksize=1))
        print(count(0))
        session.close()
    """
    assert run(script, store) == "3\n[3, 3, 3, 3]\n3\n"


def test_child_that_closes_its_parents_session_ends_nothing(store: str) -> None:
    script = """
        import os, sys
        from pilotmtc.session import Session

        with Session(sys.argv[1]) as session:
            session.info()
            child = os.fork()
            if not child:
                session.close()
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
            child = os.fork()
            if not child:
                with session:
                    session.info()
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
            print(len(list(session.tasks())))
    """
    assert run(script, store) == "3\n"


def test_fork_in_the_middle_of_a_request_holds_nothing_up(store: str) -> None:
    script = """
        import os, sys, threading
        from pilotmtc.session import Session

        with Session(sys.argv[1]) as session:
            done = threading.Event()
            def ask():
                while not done.is_set():
                    session.campaigns()
            threads = [threading.Thread(target=ask) for _ in range(4)]
            for thread in threads:
                thread.start()
            for _ in range(20):
                child = os.fork()
                if not child:
                    os._exit(0 if len(list(session.tasks())) == 3 else 1)
                assert os.waitpid(child, 0)[1] == 0
            done.set()
            for thread in threads:
                thread.join()
            print("well")
    """
    assert run(script, store) == "well\n"


def test_link_to_another_host_is_not_used_by_a_child() -> None:
    script = """
        import os
        from pilotmtc.errors import UsageError
        from pilotmtc.store.client import remote
        from pilotmtc.store.client.client import StoreClient
        from pilotmtc.transport import pool
        from pilotmtc.transport.ssh.url import SshTarget
        from pilotmtc.protocol.client.maintenance import GetStore

        class Link:
            def close(self):
                print("closed by", "parent" if os.getpid() == parent else "child", flush=True)

        parent = os.getpid()
        pool._new_link = lambda *_: Link()
        target = SshTarget(host="a", path="s.db")
        store = remote.RemoteStore(target)
        def refuse():
            raise UsageError("not now")

        client = StoreClient(refuse, on_close=store.close)
        child = os.fork()
        if not child:
            try:
                client.call(GetStore())
            except UsageError as error:
                print(error, flush=True)
            client.close()
            store.close()
            assert remote.RemoteStore(target).link is not store.link
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        client.close()
    """
    said = run(script).splitlines()
    assert "was made before a fork: make a session in the process that uses it" in said[0]
    assert said[1:] == ["closed by parent"]
