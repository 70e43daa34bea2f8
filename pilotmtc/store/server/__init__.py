"""The store server: one process that owns the file and answers clients."""
