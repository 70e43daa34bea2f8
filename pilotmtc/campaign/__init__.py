"""Campaigns before they are in the store: files that describe them, and the messages that submit them."""
