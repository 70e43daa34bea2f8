"""What users say of calls and of a pool's pilots."""

import os
from pathlib import Path
from typing import Any, cast

import pytest

from pilotmtc import PilotExecutor
from pilotmtc.errors import ConfigError, UsageError
from pilotmtc.executor.options import read_call, read_pilot, split_options
from pilotmtc.model import After, Function, Resources, TaskId
from pilotmtc.session import PilotOptions

FUNCTION = Function("work", "c" * 64)


def test_words_are_those_of_tasks() -> None:
    setup = read_call(
        {
            "cores": 2, "gpus": 0.5, "memory": "2G", "time_limit": "5m", "priority": 3, "retries": 2, "tags": ["night"],
            "env": {"N": 1}, "after": [7], "after_any": [8], "task_name": "scan", "resources": {"licence": 1},
        },
        here=True,
    )  # fmt: skip
    assert setup.resources == Resources(
        cores=2, gpus=0.5, memory_bytes=2 << 30, time_limit_s=300.0, named={"licence": 1.0}
    )
    assert (setup.priority, setup.name, setup.tags) == (3, "scan", ("night",))
    assert setup.after == (After(TaskId(7)), After(TaskId(8), False))
    template = setup.template_of(FUNCTION)
    assert template.command == ("work({args})",)
    assert template.function == FUNCTION
    assert (template.env, template.max_retries) == ({"N": "1"}, 2)


def test_directory_is_the_current_one_where_that_can_be_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert read_call({}, here=True).template.cwd == str(tmp_path)
    assert read_call({"cwd": "sub"}, here=True).template.cwd == str(tmp_path / "sub")
    assert read_call({}, here=False).template.cwd is None
    assert read_call({"cwd": "/data"}, here=False).template.cwd == "/data"


def test_names_are_no_placeholders() -> None:
    template = read_call({}, here=True).template_of(Function("f{args}", "c" * 64))
    assert template.command == ("f{{args}}({args})",)


def test_none_is_not_given() -> None:
    assert read_call({"memory": None, "cores": None}, here=False) == read_call({}, here=False)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"cores": 0}, "0 cores"),
        ({"cores": "two"}, "cores='two' is not a whole number"),
        ({"memory": "lots"}, "lots"),
        ({"gather": True}, "several ranks"),
        ({"gather": 1}, "gather=1"),
        ({"tags": "night"}, "give a list"),
        ({"tags": [""]}, "empty tag"),
        ({"priority": 2**40}, "priority"),
        ({"retries": -1}, "0 or more"),
        ({"retries": 1, "retry_on": "oomph"}, "retry_on: 'oomph' is not a cause"),
        ({"retry_on": "oom"}, "there are no retries"),
        ({"retries": 1, "retry_memory": "x2"}, "say how much the first attempt has"),
        ({"retries": 1, "time_limit": "1m", "retry_time": 0.5}, "retry_time: 0.5 is not a factor"),
    ],
)
def test_values_are_looked_at(options: Any, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        read_call(options, here=True)


def test_calls_are_retried_as_tasks_are() -> None:
    setup = read_call(
        {
            "retries": 3, "retry_on": "exit:75,137 oom", "no_retry_on": ["signal"], "memory": "1G",
            "retry_memory": "x2", "max_memory": "8G", "time_limit": 60, "retry_time": 1.5,
        },
        here=True,
    )  # fmt: skip
    template = setup.template
    assert (template.max_retries, template.retry_on) == (3, ("exit:75", "exit:137", "oom"))
    assert (template.no_retry_on, template.retry_memory, template.retry_time) == (("signal",), 2.0, 1.5)
    assert template.max_memory_bytes == 8 << 30


def test_options_are_told_apart() -> None:
    calls, pilots = split_options({"cores": 2, "pilot_cores": 8, "nodes": 4, "walltime": "1h", "memory": None})
    assert calls == {"cores": 2}
    assert pilots == {"cores": 8, "nodes": 4, "walltime": "1h"}


def test_workers_are_cores_of_pilots() -> None:
    def cores(workers: int | None, call: Resources, **options: Any) -> int:
        scheduler = {"scheduler": "slurm"} if "nodes" in options else {}
        return read_pilot(
            cast("PilotOptions", {**options, **scheduler}), workers, call, site="local", remote=False
        ).cores

    assert cores(None, Resources()) == 0
    assert cores(3, Resources()) == 3
    assert cores(3, Resources(cores=2)) == 6
    assert cores(10, Resources(), nodes=4) == 3
    with pytest.raises(UsageError, match="exclude each other"):
        cores(3, Resources(), cores=8)


# -- the pool's own words -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "kind", "words"),
    [
        ({"retry": 2}, TypeError, "did you mean 'retries'"),
        ({"waltime": 2}, TypeError, "did you mean 'walltime'"),
        ({"max_worker": 2}, TypeError, "did you mean 'max_workers'"),
        ({"max_workers": 0}, ValueError, "max_workers must be greater than 0"),
        ({"max_workers": -1}, ValueError, "max_workers must be greater than 0"),
        ({"max_workers": "2"}, UsageError, "not a whole number"),
        ({"initializer": 3}, TypeError, "initializer must be a callable"),
        ({"pilots": "all"}, UsageError, "neither 'own' nor 'any'"),
        ({"site": "nowhere"}, UsageError, "there is no site 'nowhere'"),
        ({"nodes": 2}, UsageError, "only pilots of a scheduler"),
        ({"cores": 100_000}, UsageError, "a call needs 100000 cores"),
        ({"max_workers": 2, "gpus": 1}, UsageError, "GPU"),
        ({"python": 3}, UsageError, "python=3 is not a path"),
        ({"store": 3}, UsageError, "store=3 is not a path"),
        ({"initializer": print, "initargs": "m.npz"}, TypeError, r"give a tuple, as in initargs=\('m.npz',\)"),
        ({"initializer": print, "initargs": 3}, TypeError, r"give a tuple, as in initargs=\(3,\)"),
        ({"progress": "yes"}, UsageError, "progress='yes' is neither True nor False"),
    ],
)
def test_pool_looks_at_its_words(given: Any, kind: type[Exception], words: str, tmp_path: Path) -> None:
    with pytest.raises(kind, match=words):
        PilotExecutor(**{"store": tmp_path / "s.db", **given})


def test_pool_that_calls_nothing_touches_nothing(tmp_path: Path) -> None:
    with PilotExecutor(store=tmp_path / "s.db"):
        pass
    assert list(tmp_path.glob("s.db*")) == []


def test_results_of_others_are_not_loaded(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can make a file that belongs to somebody else")
    (tmp_path / "s.db").touch()
    os.chown(tmp_path / "s.db", 12345, 12345)
    with pytest.raises(ConfigError, match="a pickle can run any program"):
        PilotExecutor(store=tmp_path / "s.db")


def test_view_looks_at_its_words(tmp_path: Path) -> None:
    pool = PilotExecutor(max_workers=2, store=tmp_path / "s.db", priority=2)
    assert pool.options(cores=2).options(priority=1)._setup.resources.cores == 2
    with pytest.raises(TypeError, match="did you mean 'cores'"):
        pool.options(core=2)  # type: ignore[call-arg]
    with pytest.raises(UsageError, match="a call needs 3 cores"):
        pool.options(cores=3)


@pytest.mark.parametrize(
    ("given", "kind", "words"),
    [
        ({"chunksize": 0}, ValueError, "chunksize must be >= 1"),
        ({"buffersize": 0}, ValueError, "buffersize=0: it must be None or > 0"),
        ({"buffersize": "3"}, TypeError, "must be an integer or None"),
    ],
)
def test_map_looks_at_its_words(given: Any, kind: type[Exception], words: str, tmp_path: Path) -> None:
    with PilotExecutor(store=tmp_path / "s.db") as pool, pytest.raises(kind, match=words):
        pool.map(str, [1], **given)


def test_nothing_is_called_after_the_end(tmp_path: Path) -> None:
    pool = PilotExecutor(store=tmp_path / "s.db")
    view = pool.options(priority=1)
    pool.shutdown()
    pool.shutdown()
    for call in (pool.submit, view.submit, pool.map):
        with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
            call(str, [1])
    with pytest.raises(RuntimeError, match="after shutdown"):
        pool.put(1)
