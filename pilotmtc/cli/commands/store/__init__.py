"""The command ``pilotmtc store``, and what belongs to it."""
