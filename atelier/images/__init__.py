"""Decode and verify image files of unknown origin."""
