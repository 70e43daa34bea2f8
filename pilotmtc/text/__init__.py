"""Text for people: words, durations, tables, and how attempts ended."""
