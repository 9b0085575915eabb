"""The craft: WikiArt, images, networks, training, enlarging, provenance. Knows neither Prefect nor DVC."""

__version__ = "0.1.0"
