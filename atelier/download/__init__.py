"""Downloading and verifying the pictures of a catalog, with one counted status for each work."""
