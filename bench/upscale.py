"""How fast prints are made: ours against Pillow's Lanczos, and against spandrel running the same file whole.

`python bench/upscale.py` takes under a minute; each figure is the best of several turns, taken in turn, in one run.
"""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import spandrel
import torch

from atelier.params import TrainUpscaler
from atelier.upscaling.network import SRVGGNetCompact, load_upscaler, save_upscaler
from atelier.upscaling.tiles import enlarge, enlarge_lanczos

SIDE_PX, TURNS = 384, 5


def main() -> None:
    """Print Mpx/s of the enlarged picture for each way, and the ratios of ours."""
    defaults = TrainUpscaler()
    picture = np.random.default_rng(0).integers(0, 256, (SIDE_PX, SIDE_PX, 3), dtype=np.uint8)
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "upscaler.safetensors"
        save_upscaler(path, SRVGGNetCompact(defaults.scale, defaults.features, defaults.blocks), {})
        network, _ = load_upscaler(path)
        descriptor = spandrel.ModelLoader(device="cpu").load_from_file(path)
    assert isinstance(descriptor, spandrel.ImageModelDescriptor)

    def whole() -> np.ndarray:
        with torch.inference_mode():
            images = torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 255
            return (descriptor(images)[0] * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()

    ways: dict[str, Callable[[], np.ndarray]] = {
        "ours, tiled": lambda: enlarge(network, picture, defaults.scale),
        "spandrel, whole": whole,
        "Lanczos": lambda: enlarge_lanczos(picture, defaults.scale),
    }
    best = dict.fromkeys(ways, float("inf"))
    for _ in range(TURNS):
        for name, way in ways.items():
            best[name] = min(best[name], seconds(way))
    pixels = (SIDE_PX * defaults.scale) ** 2
    for name, best_s in best.items():
        ratio = best[name] / best["ours, tiled"]
        print(f"upscale  {name:16} {pixels / best_s / 1e6:8.2f} Mpx/s   ours is {ratio:.3g} times as fast")
    difference = np.abs(ways["ours, tiled"]().astype(int) - whole()).max()
    print(f"upscale  ours and spandrel differ by {difference} of 255 at most")


def seconds(way: Callable[[], np.ndarray]) -> float:
    """How long one call takes."""
    began_s = time.perf_counter()
    way()
    return time.perf_counter() - began_s


if __name__ == "__main__":
    main()
