"""The tables and views of the store's file, and how older files get them."""
