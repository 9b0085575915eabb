"""DVC and git: stages, experiments, the cache and remotes, locks."""
