"""Tasks from their submission to their end."""
