"""What users can look at: campaigns, tasks, results, outputs, the overview, and reasons for a task's state."""
