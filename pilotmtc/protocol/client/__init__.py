"""Requests of clients: of the command line, the screen and the Python API."""
