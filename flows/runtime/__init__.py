"""The work tree, its paths and child processes: what flows need of neither DVC nor Prefect."""
