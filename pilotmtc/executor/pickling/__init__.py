"""Functions, arguments and results as pickles: what travels with them, and which may be loaded."""
