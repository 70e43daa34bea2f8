"""Running tasks on one node."""
