"""Crews run an agent's tasks, on this node or on many nodes."""
