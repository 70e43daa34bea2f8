"""Running a campaign to its end."""
