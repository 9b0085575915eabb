"""The `atelier` command's sub-commands."""
