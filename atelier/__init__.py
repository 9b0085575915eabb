"""The library: WikiArt, downloads, data sets, networks, training, metrics, canvases, upscaling and provenance."""

import os

__version__ = "0.1.0"

if os.name != "posix":
    raise SystemExit("Atelier runs on Linux and macOS. On Windows, run it inside WSL: `wsl --install` sets that up.")
