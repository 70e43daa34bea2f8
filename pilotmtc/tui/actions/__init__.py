"""What users can do from the screen: to tasks, and to pilots."""
