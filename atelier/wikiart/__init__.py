"""WikiArt's wire formats as works of the catalog."""
