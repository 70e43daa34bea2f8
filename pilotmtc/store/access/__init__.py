"""Who may use the store over SSH: its keys."""
