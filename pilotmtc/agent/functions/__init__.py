"""Calls of Python functions: persistent processes of the user's Python, which run one call after the other."""
