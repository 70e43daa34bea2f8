"""Commands that wait for tasks and campaigns, or change them."""
