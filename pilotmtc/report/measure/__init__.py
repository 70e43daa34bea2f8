"""Where the time of pilots went, what tasks needed, and what follows from that."""
