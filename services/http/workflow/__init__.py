"""The workflow dialect: tasks as the activities of a project, in the shape of JSON:API."""
