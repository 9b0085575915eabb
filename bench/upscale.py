"""Speed and memory of making prints: our tiles, spandrel running the same file on whole pictures, and Lanczos.

`python bench/upscale.py` takes about a minute. Speeds are the best of several rounds in one process; memory is the peak
of a process for each method and size, beyond its memory after a small picture, the print included.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from atelier.files import digest
from atelier.pictures import Pixels
from atelier.settings.schema import TrainUpscaler
from atelier.upscaling.external import open_external
from atelier.upscaling.network import SRVGGNetCompact, enlarge_lanczos, save_upscaler
from atelier.upscaling.prints import new_printer

PRINT_PX, ROUNDS = 768, 5
GROWING_PX = (512, 1024, 2048)  # sides of prints
METHODS = ("ours", "ours, ×8", "spandrel", "Lanczos")

Enlarge = Callable[[Pixels], Pixels]


def main() -> None:
    """Print each method's speed in Mpx/s of the print, the ratio to ours, and its peak memory as prints grow."""
    defaults = TrainUpscaler()
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "upscaler.safetensors"
        save_upscaler(path, SRVGGNetCompact(defaults.scale, defaults.features, defaults.blocks), {})
        speeds(path)
        memory(path)


def speeds(path: Path) -> None:
    """Print the speed of each method; the methods take turns."""
    methods = {name: enlarger(name, path) for name in METHODS}
    pictures = {name: noise(PRINT_PX // scale(name)) for name in METHODS}
    best = dict.fromkeys(METHODS, float("inf"))
    for _ in range(ROUNDS):
        for name, enlarge in methods.items():
            best[name] = min(best[name], seconds(enlarge, pictures[name]))
    rates = {name: PRINT_PX**2 / 1e6 / best_s for name, best_s in best.items()}
    for name, rate in rates.items():
        print(f"upscale  {name:9} {rate:8.2f} Mpx/s   ours is {rates['ours'] / rate:.3g} times as fast")
    difference = np.abs(methods["ours"](pictures["ours"]).astype(int) - methods["spandrel"](pictures["ours"]))
    print(f"upscale  ours and spandrel differ by {difference.max()} of 255 at most, in {difference.sum():,} values")


def memory(path: Path) -> None:
    """Print each method's peak memory as the print grows, each measured in a process of its own."""
    for name in METHODS:
        peaks = []
        for side in GROWING_PX:
            command = [sys.executable, __file__, name, str(path), str(side)]
            peaks.append(subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip())
        sizes = ", ".join(f"{side}²: {peak} MB" for side, peak in zip(GROWING_PX, peaks, strict=True))
        print(f"upscale  {name:9} {sizes}")


def peak_mb(name: str, path: Path, side: int) -> None:
    """Print how many MB more a print of this side takes than a small one."""
    enlarge = enlarger(name, path)
    enlarge(noise(32))
    picture = noise(side // scale(name))
    Path("/proc/self/clear_refs").write_text("5")  # reset the peak
    before = kib("VmRSS")
    enlarge(picture)
    print(round((kib("VmHWM") - before) / 1024))


def kib(key: str) -> int:
    """This process's memory from /proc: VmRSS is the present one, VmHWM the peak."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{key}:"))


def enlarger(name: str, path: Path) -> Enlarge:
    """A function that enlarges a picture by the named method."""
    match name:
        case "Lanczos":
            return lambda picture: enlarge_lanczos(picture, 2)
        case "spandrel":
            descriptor = open_external(path, digest(path), torch.device("cpu")).descriptor

            def whole(picture: Pixels) -> Pixels:
                with torch.inference_mode():
                    images = torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 255
                    return (descriptor(images)[0] * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()

            return whole
    printer = new_printer("learned", scale(name), 8, path)
    return lambda picture: printer.print(picture)[0]


def scale(name: str) -> int:
    """The method's factor on each side."""
    return 8 if name.endswith("×8") else 2


def noise(side: int) -> Pixels:
    """A square picture of noise."""
    return np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)


def seconds(enlarge: Enlarge, picture: Pixels) -> float:
    """The wall time of one call."""
    began_s = time.perf_counter()
    enlarge(picture)
    return time.perf_counter() - began_s


if __name__ == "__main__":
    if len(sys.argv) == 4:
        peak_mb(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
    else:
        main()
