"""Turning users' commands and options into tasks and pilots, and submitting them."""
