"""Tables that grow and change while they are looked at."""
