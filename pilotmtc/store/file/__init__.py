"""The store's file: how it is opened, its transactions, and what it says of tasks, pilots and values."""
