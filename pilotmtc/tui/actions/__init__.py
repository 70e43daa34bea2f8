"""What users can do to tasks and pilots from the screen."""
