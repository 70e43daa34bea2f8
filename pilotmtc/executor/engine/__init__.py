"""What makes a pool work: calls go to the store and their ends come back, whoever holds the pool."""
