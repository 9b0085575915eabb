"""Pictures larger than memory: the stage at 20,000 × 10,000 px, and tiles against the whole where both fit.

    python bench/murals.py [--canvas 160 320] [--both 24 48] [--turns 3]

The generator is the default one, a sketch of 64 px; its weights are drawn, since they decide no speed. Each contestant
has a process of its own, and they take turns; the peak is the kernel's (VmHWM), libraries included.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from atelier.canvas import murals
from atelier.canvas.paint import Painting, latent_field, paint
from atelier.canvas.recipe import Recipe
from atelier.networks import NetworkConfig, load_generator, make_networks, save_network
from atelier.networks.latent_field import in_double_precision, render
from atelier.paths import ARTWORKS, GENERATOR
from atelier.provenance.facts import PixelFacts
from atelier.settings.schema import Params
from atelier.settings.training import Sketch
from tasks.generate import run
from tasks.stage import Stage

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Measured:
    """One turn of one way."""

    size: str
    mpx: float
    seconds: float
    processor_s: float
    peak_mb: float
    file_mb: float
    sha256: str


def main() -> None:
    parser = argparse.ArgumentParser(description="pictures larger than memory")
    parser.add_argument("--canvas", type=int, nargs=2, default=[160, 320], help="of the mural, in cells of 64 px")
    parser.add_argument("--both", type=int, nargs=2, default=[24, 48], help="a canvas that also fits as a whole")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--as", dest="child", choices=sorted(WAYS), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        rows, columns = arguments.canvas
        print(json.dumps(asdict(measured(arguments.child, (rows, columns)))))
        return
    with tempfile.TemporaryDirectory() as name:
        os.chdir(name)
        save_default_generator()
        ways = [way for way in WAYS if way != "stage"]
        seen: dict[str, list[Measured]] = {way: [] for way in ways}
        for _ in range(arguments.turns):
            for way in ways:
                seen[way].append(child(way, arguments.both))
        at_once_s = min(turn.seconds for turn in seen["whole"])
        for way, turns in seen.items():
            best_s, peak_mb = min(turn.seconds for turn in turns), max(turn.peak_mb for turn in turns)
            speed = f"{turns[0].mpx / best_s:6.2f} Mpx/s  {at_once_s / best_s:.2f}× the whole's speed"
            speed += f"  {min(turn.processor_s for turn in turns):.2f} s of a processor"
            print(f"murals  {way:7} {turns[0].size}  {speed}  peak {peak_mb:,.0f} MB")
        alike = len({turn.sha256 for turns in seen.values() for turn in turns}) == 1
        print(f"murals  {'all have the same pixels' if alike else 'THE PIXELS DIFFER'}")
        mural = child("stage", arguments.canvas)
        speed = f"{mural.mpx / mural.seconds:6.2f} Mpx/s  {mural.seconds:,.0f} s, TIFF included"
        print(f"murals  stage   {mural.size}  {speed}  peak {mural.peak_mb:,.0f} MB  file {mural.file_mb:,.0f} MB")


def whole(recipe: Recipe) -> np.ndarray:
    """All cells through the generator at once."""
    generator = in_double_precision(load_generator(GENERATOR)[0], torch.device("cpu"))
    return render(generator, latent_field(generator, recipe))


def pieces(recipe: Recipe) -> np.ndarray:
    """What an artwork below a mural's size is painted by."""
    return paint(in_double_precision(load_generator(GENERATOR)[0], torch.device("cpu")), recipe)


def tiled(recipe: Recipe) -> np.ndarray:
    """Tile by tile into a file, each on the disk before the next."""
    source = Painting(in_double_precision(load_generator(GENERATOR)[0], torch.device("cpu")), recipe)
    path = Path(f"{os.getpid()}.npy")
    murals.paint_tiles(source, path, lambda px: None)
    return np.load(path, mmap_mode="r")


def stage(recipe: Recipe) -> np.ndarray:
    """The stage generate, its TIFF and contact sheet included."""
    changes = {"count": 1, "canvas": [*recipe.canvas], "layout": recipe.layout}
    run(Stage("generate", Params.model_validate({"generate": changes})))
    return np.empty((0, 0, 3), np.uint8)


WAYS: dict[str, Callable[[Recipe], np.ndarray]] = {
    "whole": whole, "pieces": pieces, "tiled": tiled, "stage": stage
}  # fmt: skip


def measured(way: str, canvas: tuple[int, int]) -> Measured:
    """Seconds and peak memory of one way in this process."""
    recipe = Recipe(seed=1, index=0, canvas=canvas, truncation=1.0, layout="smooth")
    began_s, processor_s = time.perf_counter(), time.process_time()
    picture = WAYS[way](recipe)
    seconds, processor_s = time.perf_counter() - began_s, time.process_time() - processor_s
    status = Path("/proc/self/status").read_text().splitlines()
    (peak_kb,) = (int(line.split()[1]) for line in status if line.startswith("VmHWM"))
    height, width = 64 * canvas[0], 64 * canvas[1]
    files = [*ARTWORKS.glob("*.tif")] if way == "stage" else []
    return Measured(
        size=f"{width:,} × {height:,} px",
        mpx=width * height / 1e6,
        seconds=seconds,
        processor_s=processor_s,
        peak_mb=peak_kb / 1024,
        file_mb=sum(path.stat().st_size for path in files) / 1e6,
        sha256=PixelFacts.of(np.array(picture)).sha256,
    )


def child(way: str, canvas: list[int]) -> Measured:
    """The same in a process of its own."""
    command = [sys.executable, str(Path(__file__).resolve()), "--as", way, "--canvas", *map(str, canvas)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    said = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout
    return Measured(**json.loads(said.splitlines()[-1]))


def save_default_generator() -> None:
    """A generator as params.yaml has it, untrained."""
    settings = Sketch()
    network = NetworkConfig("sketch", 64, settings.model_dump())
    torch.manual_seed(0)
    generator, _ = make_networks(network)
    save_network(GENERATOR, generator, network, {"kimg": 0.0, "seed": 0})


if __name__ == "__main__":
    main()
