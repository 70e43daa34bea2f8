"""The store: interface, SQLite, server and client."""
