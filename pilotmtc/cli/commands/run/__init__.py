"""Commands that run tasks, and those for what they run on."""
