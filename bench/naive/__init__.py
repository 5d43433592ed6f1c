"""The naive peer: the same work written as the documentation of FastStream and of eventsourcing shows it."""
