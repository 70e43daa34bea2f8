"""Connections to the store: pipes and SSH."""
