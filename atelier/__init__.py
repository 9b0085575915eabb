"""The craft: WikiArt, images, networks, training, enlarging, provenance. Knows neither Prefect nor DVC."""

import os

__version__ = "0.1.0"

if os.name != "posix":
    raise SystemExit(
        "Atelier runs on Linux and macOS. On Windows, run it inside WSL: `wsl --install` sets that up."
    )
