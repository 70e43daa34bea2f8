"""What users change of many tasks at once: cancel, retry, edit, delete; slice by slice."""
