"""Clients of a store's server, on its host or on another one."""
