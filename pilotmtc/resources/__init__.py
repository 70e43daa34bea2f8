"""Cores, memory, GPUs: amounts of them, and what fits where."""
