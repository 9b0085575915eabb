"""The built-in archive: paints seascapes, and serves them as WikiArt would."""
