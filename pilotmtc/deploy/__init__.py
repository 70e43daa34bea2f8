"""Sites seen from the workstation: `check` says what is wrong with one; `put` brings pilotmtc there."""
