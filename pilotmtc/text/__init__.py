"""Words, times and tables, as people read them."""
