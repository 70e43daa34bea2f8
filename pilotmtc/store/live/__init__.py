"""State of the store that is only in the server's memory."""
