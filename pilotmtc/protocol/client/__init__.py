"""What clients say to the store: people through the command line, the screens and Python."""
