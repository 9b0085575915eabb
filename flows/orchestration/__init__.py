"""Prefect for all flows: a task per stage, the server, a run's artifacts, notifications."""
