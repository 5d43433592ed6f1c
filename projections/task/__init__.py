"""A task as its readers keep and find it."""
