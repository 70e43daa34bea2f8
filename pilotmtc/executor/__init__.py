"""Python functions as tasks: `PilotExecutor`, a `concurrent.futures.Executor` over pilots."""

from pilotmtc.executor.future import PilotFuture, PoolBroken, StoredValue
from pilotmtc.executor.options import CallOptions, PoolOptions
from pilotmtc.executor.pool import PilotExecutor

__all__ = ["CallOptions", "PilotExecutor", "PilotFuture", "PoolBroken", "PoolOptions", "StoredValue"]
