"""The settings in params.yaml: their schema, reading them with messages about mistakes, edits and presets."""
