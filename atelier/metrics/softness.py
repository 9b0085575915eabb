"""How soft generated pictures are: the blur that makes real paintings' finest detail most like theirs.

What the upscaler learns to undo should reach as far (GAN.md 5.3). No weights: patches of a Laplacian pyramid are
compared, and one number is searched for.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from atelier.metrics.patches import PatchReference
from atelier.pictures.blur import blurred_pictures

MOST = 250  # pictures a side: more change little, and every blur tried costs them
WIDEST_PX, COARSE_PX, FINE_PX = 3.0, 0.25, 0.05  # what is searched, and in which steps
FAR = 1.5  # times the least distance seen: the search is past it

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Softness:
    """Sigmas of a Gaussian in pixels: of the generated pictures, and of real paintings that were judged like them."""

    value: float
    floor: float


def softness(generated: Pixels, training: Pixels, held_out: Pixels, seed: int) -> Softness:
    """How far training paintings must be blurred to be like the generated pictures (n, H, W, 3), or the held-out."""
    return Softness(_matching_blur(generated, training, seed), _matching_blur(held_out, training, seed))


def _matching_blur(pictures: Pixels, sharp: Pixels, seed: int) -> float:
    """The sigma whose blur of `sharp` is nearest to `pictures` in the finest level of the pyramid."""
    count = min(len(pictures), len(sharp), MOST)
    random = np.random.default_rng(seed)
    reference = PatchReference(_some(pictures, count, random), seed)
    paintings = _some(sharp, count, random)

    def distance(sigma_px: float) -> float:
        return reference.distances(blurred_pictures(paintings, sigma_px))[0]

    coarse, nearest = 0.0, float("inf")
    for sigma_px in np.arange(0, WIDEST_PX + COARSE_PX / 2, COARSE_PX):
        found = distance(sigma_px)
        if found < nearest:
            coarse, nearest = sigma_px, found
        elif found > FAR * nearest:
            break  # it only rises from here
    steps = round(COARSE_PX / FINE_PX) - 1
    around = coarse + FINE_PX * np.arange(-steps if coarse else 0, steps + 1)
    return round(float(min(around, key=distance)), 2)


def _some(pictures: Pixels, count: int, random: np.random.Generator) -> Pixels:
    chosen: Pixels = pictures[np.sort(random.permutation(len(pictures))[:count])]
    return chosen
