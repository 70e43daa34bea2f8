"""Many-task computing with pilot jobs."""

TYPE_CHECKING = False  # as in `typing`, which function workers do without
if TYPE_CHECKING:
    from pilotmtc import joblib as joblib
    from pilotmtc.executor import PilotExecutor as PilotExecutor
    from pilotmtc.session import Session as Session

__version__ = "0.1.0"
_PLACES = {"PilotExecutor": "pilotmtc.executor", "Session": "pilotmtc.session", "joblib": "pilotmtc.joblib"}


def __getattr__(name: str) -> object:
    """Import what users name, when they do: a command pays for what it needs, and a function worker for nothing."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    module = importlib.import_module(_PLACES[name])
    return module if module.__name__ == f"{__name__}.{name}" else getattr(module, name)


def __dir__() -> "list[str]":
    return sorted([*globals(), *_PLACES])
