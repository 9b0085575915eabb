"""WikiArt's lists and oeuvres as works of the catalog."""
