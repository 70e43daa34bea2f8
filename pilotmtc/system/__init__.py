"""What pilotmtc asks of the operating system."""
