"""Crews: what runs an agent's tasks, on this node or on many."""
