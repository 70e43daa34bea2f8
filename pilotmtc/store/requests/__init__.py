"""What requests do to the store, one file a subject."""
