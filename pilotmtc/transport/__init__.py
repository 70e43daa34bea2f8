"""Ways to the store: pipe and SSH channels."""
