"""Preparing sites from the workstation: `check` says what is wrong with one; `put` installs pilotmtc there."""
