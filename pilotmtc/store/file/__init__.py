"""The store's file: its schema, its versions, its transactions."""
