"""How fast prints are made, and in how much memory: ours in tiles, spandrel running the same file whole, Lanczos.

`python bench/upscale.py` takes about a minute. Speeds are the best of several turns, taken in turn, in one process;
memory is that of a process a contestant and size, beyond what it has after a small picture: the print included.
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
from atelier.upscaling.enlarge import enlarge_lanczos
from atelier.upscaling.external import open_external
from atelier.upscaling.network import SRVGGNetCompact, save_upscaler
from atelier.upscaling.prints import new_printer

PRINT_PX, TURNS = 768, 5
GROWING_PX = (512, 1024, 2048)  # sides of prints
WAYS = ("ours", "ours, ×8", "spandrel", "Lanczos")

Way = Callable[[Pixels], Pixels]


def main() -> None:
    """Print Mpx/s of the enlarged picture for each way, the ratios of ours, and peak memory as prints grow."""
    defaults = TrainUpscaler()
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "upscaler.safetensors"
        save_upscaler(path, SRVGGNetCompact(defaults.scale, defaults.features, defaults.blocks), {})
        speeds(path)
        memory(path)


def speeds(path: Path) -> None:
    """Mpx/s of each way, in turn."""
    ways = {name: way(name, path) for name in WAYS}
    pictures = {name: noise(PRINT_PX // scale(name)) for name in WAYS}
    best = dict.fromkeys(WAYS, float("inf"))
    for _ in range(TURNS):
        for name, enlarge in ways.items():
            best[name] = min(best[name], seconds(enlarge, pictures[name]))
    rates = {name: PRINT_PX**2 / 1e6 / best_s for name, best_s in best.items()}
    for name, rate in rates.items():
        print(f"upscale  {name:9} {rate:8.2f} Mpx/s   ours is {rates['ours'] / rate:.3g} times as fast")
    difference = np.abs(ways["ours"](pictures["ours"]).astype(int) - ways["spandrel"](pictures["ours"]))
    print(
        f"upscale  ours and spandrel differ by {difference.max()} of 255 at most, in {difference.sum():,} values"
    )


def memory(path: Path) -> None:
    """Peak megabytes of each way as the print grows, each in a process of its own."""
    for name in WAYS:
        peaks = []
        for side in GROWING_PX:
            command = [sys.executable, __file__, name, str(path), str(side)]
            peaks.append(subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip())
        sizes = ", ".join(f"{side}²: {peak} MB" for side, peak in zip(GROWING_PX, peaks, strict=True))
        print(f"upscale  {name:9} {sizes}")


def peak_mb(name: str, path: Path, side: int) -> None:
    """Print how much more memory a print of this side takes than a small one did."""
    enlarge = way(name, path)
    enlarge(noise(32))
    picture = noise(side // scale(name))
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak of the start
    before = kib("VmRSS")
    enlarge(picture)
    print(round((kib("VmHWM") - before) / 1024))


def kib(key: str) -> int:
    """What Linux says of this process's memory: VmRSS now, VmHWM at its peak."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{key}:"))


def way(name: str, path: Path) -> Way:
    """What enlarges a picture, ready."""
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
    press = new_printer("learned", scale(name), 8, path)
    return lambda picture: press.print(picture)[0]


def scale(name: str) -> int:
    """How many times larger on each side."""
    return 8 if name.endswith("×8") else 2


def noise(side: int) -> Pixels:
    """A picture of this side."""
    return np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)


def seconds(enlarge: Way, picture: Pixels) -> float:
    """How long one call takes."""
    began_s = time.perf_counter()
    enlarge(picture)
    return time.perf_counter() - began_s


if __name__ == "__main__":
    if len(sys.argv) == 4:
        peak_mb(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
    else:
        main()
