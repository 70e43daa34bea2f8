"""The executor in the hands of libraries that take one: each on a real pilot."""

import asyncio
import copy
import gc
import importlib
import multiprocessing
import os
import threading
import time
import weakref
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor
from pathlib import Path
from typing import Any

import joblib  # type: ignore[import-untyped]
import numpy as np
import pytest

import pilotmtc.joblib
from pilotmtc import PilotExecutor
from pilotmtc.errors import UsageError
from pilotmtc.joblib import PilotBackend
from pilotmtc.states import TaskState
from tests.pools import Place, a_place, enter
from tests.support import wait_until

LIMIT_S = 120.0


@pytest.fixture(scope="module")
def _place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with a_place(tmp_path_factory.mktemp("pools")) as place:
        yield place


@pytest.fixture(scope="module")
def _pool(_place: Place) -> Iterator[PilotExecutor]:
    with _place.pool(idle="5m") as pool:
        pool.submit(pow, 2, 3).result(LIMIT_S)  # its threads are there before a test counts them
        yield pool


@pytest.fixture
def place(_place: Place, monkeypatch: pytest.MonkeyPatch) -> Place:
    enter(_place, monkeypatch)
    return _place


@pytest.fixture
def pool(_pool: PilotExecutor, place: Place) -> PilotExecutor:
    return _pool


@pytest.fixture
def parallel(pool: PilotExecutor) -> Iterator[Any]:
    """What `joblib.Parallel` is under the pool."""
    pilotmtc.joblib.register()
    with joblib.parallel_config(backend="pilotmtc", executor=pool):
        yield joblib.Parallel


def add(x: float, more: float = 0.0) -> float:
    return x + more


def bowl(x: Any) -> float:
    return float(np.sum((np.asarray(x) - [1.0, -2.0]) ** 2))


def pid_after(nap_s: float) -> int:
    time.sleep(nap_s)
    return os.getpid()


# -- joblib -----------------------------------------------------------------------------------------------------


def test_joblib(parallel: Any) -> None:
    found = parallel()(joblib.delayed(add)(x, more=0.5) for x in range(300))
    assert found == [x + 0.5 for x in range(300)]


def test_joblib_calls_in_the_pool(parallel: Any) -> None:
    pids = parallel(n_jobs=2)(joblib.delayed(pid_after)(0.05) for _ in range(6))
    assert os.getpid() not in pids
    assert len(set(pids)) == 2


def test_joblib_in_the_program_itself(parallel: Any) -> None:
    assert set(parallel(n_jobs=1)(joblib.delayed(os.getpid)() for _ in range(3))) == {os.getpid()}
    with pytest.raises(ValueError, match="n_jobs == 0"):
        parallel(n_jobs=0)(joblib.delayed(os.getpid)() for _ in range(3))


def test_joblib_raises_what_a_call_has_raised(parallel: Any) -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        parallel()(joblib.delayed(divmod)(1, x) for x in (2, 1, 0, 1))
    assert "ZeroDivisionError" in str(caught.value.__cause__)
    assert parallel()(joblib.delayed(add)(x) for x in range(3)) == [0, 1, 2]


@pytest.mark.parametrize("how", ["generator", "generator_unordered"])
def test_joblib_gives_results_as_they_come(parallel: Any, how: str) -> None:
    assert sorted(parallel(return_as=how)(joblib.delayed(add)(x) for x in range(20))) == list(range(20))


def test_joblib_has_a_timeout(parallel: Any, tmp_path: Path) -> None:
    def wait() -> None:
        while not (tmp_path / "go").exists():
            time.sleep(0.01)

    try:
        with pytest.raises(multiprocessing.TimeoutError):
            parallel(timeout=0.2)(joblib.delayed(wait)() for _ in range(2))
    finally:
        (tmp_path / "go").touch()


def test_joblib_within_a_call(parallel: Any) -> None:
    def total(count: int) -> float:
        return float(sum(joblib.Parallel(n_jobs=2)(joblib.delayed(add)(x) for x in range(count))))

    assert parallel()(joblib.delayed(total)(count) for count in range(5)) == [0, 0, 1, 3, 6]


class Table:
    """What pandas' tables are to joblib: not an array, and to be changed."""

    def __init__(self, columns: dict[str, Any]) -> None:
        self.columns = columns

    @property
    def nbytes(self) -> int:
        return sum(column.nbytes for column in self.columns.values())

    def __copy__(self) -> "Table":
        return Table(copy.copy(self.columns))


def test_joblib_stores_large_arguments_once(
    parallel: Any, pool: PilotExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def use(array: Any, table: Table, *, factor: int) -> tuple[float, bool, list[str]]:
        before = sorted(table.columns)
        table.columns["more"] = factor
        return float(array.sum()) * factor, array.flags.writeable, before

    stored: list[object] = []
    put = pool.put

    def see(value: object) -> object:
        stored.append(type(value))
        return put(value)

    monkeypatch.setattr(pool, "put", see)
    array, table = np.ones(200_000), Table({"a": np.zeros(200_000)})
    found = parallel(max_nbytes="1M")(joblib.delayed(use)(array, table=table, factor=x) for x in range(6))
    assert found == [(200_000.0 * x, False, ["a"]) for x in range(6)]
    assert stored == [np.ndarray, Table]
    kept = weakref.ref(array)
    del array
    gc.collect()
    assert kept() is None


class Unstorable:
    nbytes = 100

    def __init__(self) -> None:
        self.lock = threading.Lock()


def test_joblib_sends_what_cannot_be_stored_with_its_call(parallel: Any) -> None:
    with pytest.raises(TypeError, match="lock"):
        parallel(max_nbytes=1)(joblib.delayed(id)(value) for value in [Unstorable(), Unstorable()])


def test_joblib_makes_a_pool_of_its_own(place: Place) -> None:
    pilotmtc.joblib.register()
    with joblib.parallel_config(backend="pilotmtc", n_jobs=2, inner_max_num_threads=3, store=place.store, idle="3s"):
        for _ in range(2):
            variables = joblib.Parallel()(joblib.delayed(os.getenv)(name) for name in ("OMP_NUM_THREADS", "HOME"))
            assert variables == ["3", os.environ["HOME"]]
    with place.session() as session:
        newest = session.campaigns()[0]
        assert newest.counts == {TaskState.DONE: 4}
        wait_until(lambda: not any(pilot.description.campaign == newest.id for pilot in session.pilots))


def test_joblib_with_a_pool_that_can_do_nothing_more(place: Place) -> None:
    pool = place.pool()
    pool.shutdown()
    backend = PilotBackend(executor=pool)
    with pytest.raises(RuntimeError, match="after shutdown"):
        joblib.Parallel(n_jobs=2, backend=backend)(joblib.delayed(add)(x) for x in range(3))


def test_joblib_with_a_pool_takes_no_options(pool: PilotExecutor) -> None:
    with pytest.raises(UsageError, match="nodes"):
        PilotBackend(executor=pool, nodes=3)


def test_scikit_learn(parallel: Any) -> None:
    from sklearn.datasets import make_classification  # type: ignore[import-untyped]
    from sklearn.linear_model import LogisticRegression  # type: ignore[import-untyped]
    from sklearn.model_selection import GridSearchCV  # type: ignore[import-untyped]

    inputs, classes = make_classification(300, 10, random_state=1)
    alone, pooled = (GridSearchCV(LogisticRegression(), {"C": [0.01, 1.0]}, cv=3, n_jobs=n) for n in (1, -1))
    for search in (alone, pooled):
        search.fit(inputs, classes)
    assert pooled.best_params_ == alone.best_params_
    assert list(pooled.cv_results_["mean_test_score"]) == list(alone.cv_results_["mean_test_score"])


# -- what takes a map, or an executor -----------------------------------------------------------------------------


def test_scipy(pool: PilotExecutor) -> None:
    from scipy.optimize import differential_evolution

    bounds = [(-5.0, 5.0)] * 2
    found = differential_evolution(bowl, bounds, workers=pool.map, updating="deferred", rng=1, maxiter=15, tol=0)
    assert found.nfev > 200
    assert found.x == pytest.approx([1.0, -2.0], abs=1e-3)


def test_emcee(pool: PilotExecutor) -> None:
    import emcee  # type: ignore[import-untyped]

    def log_density(x: Any) -> float:
        return -0.5 * float(np.sum(x**2))

    start = np.random.default_rng(1).normal(size=(8, 2))
    alone, pooled = (emcee.EnsembleSampler(8, 2, log_density, pool=given) for given in (None, pool))
    for sampler in (alone, pooled):
        np.random.seed(1)  # emcee's own
        sampler.run_mcmc(start, 20)
    assert (alone.get_chain() == pooled.get_chain()).all()


def test_tqdm(pool: PilotExecutor, capsys: pytest.CaptureFixture[str]) -> None:
    from tqdm import tqdm  # type: ignore[import-untyped]

    tqdm.monitor_interval = 0  # no thread that lasts
    assert sum(tqdm(pool.map(abs, range(50)), total=50)) == 1225
    assert "50/50" in capsys.readouterr().err


def test_asyncio(pool: PilotExecutor) -> None:
    async def run() -> list[float]:
        loop = asyncio.get_running_loop()
        return await asyncio.gather(*[loop.run_in_executor(pool, add, x, 1.0) for x in range(5)])

    assert asyncio.run(run()) == [1, 2, 3, 4, 5]


def test_dask(pool: PilotExecutor) -> None:
    dask: Any = importlib.import_module("dask.base")
    array: Any = importlib.import_module("dask.array")
    delayed: Any = importlib.import_module("dask.delayed").delayed
    twice = delayed(lambda x: 2 * x)
    assert dask.compute(sum(twice(x) for x in range(10)), scheduler=pool) == (90,)
    assert array.ones((400, 400), chunks=(200, 200)).sum().compute(scheduler=pool) == 160_000


def test_optuna(pool: PilotExecutor) -> None:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)

    def suggested(trial: Any) -> list[float]:
        return [trial.suggest_float(name, -5.0, 5.0) for name in "xy"]

    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=1))
    for _ in range(5):
        trials = [study.ask() for _ in range(8)]
        for trial, value in zip(trials, pool.map(bowl, map(suggested, trials)), strict=True):
            study.tell(trial, value)
    threads = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=1))
    threads.optimize(lambda trial: pool.submit(bowl, suggested(trial)).result(LIMIT_S), n_trials=8, n_jobs=4)
    for found in (study, threads):
        assert found.best_value == pytest.approx(bowl([found.best_params[name] for name in "xy"]))


def test_broken_pool_is_told_by_joblib(place: Place) -> None:
    def fail() -> None:
        raise OSError("no model here")

    pool = place.pool(initializer=fail)
    with (
        joblib.parallel_config(backend=PilotBackend(executor=pool)),
        pytest.raises(BrokenExecutor, match="no model here"),
    ):
        joblib.Parallel()(joblib.delayed(add)(x) for x in range(10))
    pool.shutdown()
