"""Moab."""
