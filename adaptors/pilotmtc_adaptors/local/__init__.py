"""The host itself, without a scheduler."""
