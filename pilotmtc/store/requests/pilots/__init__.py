"""The life of pilots and of their jobs."""
