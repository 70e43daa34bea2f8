"""Queries: what clients see of tasks and pilots, now and in the past."""
