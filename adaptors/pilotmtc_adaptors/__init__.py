"""SAGA adaptors for pilotmtc's schedulers."""
