"""What the agent decides. Pure: no clock, no I/O."""
