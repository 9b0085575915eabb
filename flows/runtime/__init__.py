"""The work tree a flow runs in, and child processes."""
