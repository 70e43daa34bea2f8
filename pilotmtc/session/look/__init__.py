"""What users can see: tasks, results, output, reasons."""
