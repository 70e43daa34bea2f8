"""The agent: runs tasks inside an allocation."""
