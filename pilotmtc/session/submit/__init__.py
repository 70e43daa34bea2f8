"""From users' words to tasks and pilots."""
