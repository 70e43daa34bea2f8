"""Reaching a store server, from this host or another."""
