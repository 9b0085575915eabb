"""Parts of a night: the champion, the schedule, the report."""
