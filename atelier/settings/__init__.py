"""The settings of a studio: params.yaml as typed sections, messages about mistakes in it, and edits."""
