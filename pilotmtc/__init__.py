"""Many-task computing with pilot jobs."""

__version__ = "0.1.0"
