"""Pilots' lives: `local` starts one on this machine; `steward` asks a scheduler for them, where the store is."""

from pilotmtc.pilots.local import start_local

__all__ = ["start_local"]
