"""DVC and git: stages, experiments, storage."""
