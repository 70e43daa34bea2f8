"""Frames and messages."""
