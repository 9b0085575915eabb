"""The work tree and child processes, for all flows. Uses neither DVC nor Prefect."""
