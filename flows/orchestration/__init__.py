"""What flows share of Prefect: tasks for stages, the server, the page that shows a run."""
