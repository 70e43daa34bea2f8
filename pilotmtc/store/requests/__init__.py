"""Handlers of requests: what each request does with the store. One file per subject."""
