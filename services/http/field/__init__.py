"""The field dialect: activities, tasks and workflows as field work knows them, on the same commands and read models."""
