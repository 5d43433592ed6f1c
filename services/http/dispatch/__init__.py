"""The dispatch dialect: tasks that go out over a channel, their targets, attributes and results."""
