"""What changes by plan while a training runs: learning rates, Adam's second momentum, the penalties' weight.

Each follows from how much of the training lies behind, so that resuming has nothing to restore. The cosines are
R3GAN's (its train.py, arXiv 2501.05441).
"""

import math
from typing import Literal

LR_FALLS_TO = 0.25  # of its first value: 2e-4 to 5e-5
WARM_FALLS_TO = 0.05  # of the rates, at the end of a warm start
GAMMA_FALLS_TO = 0.1  # of its first value
BETA2_RISES = (0.9, 0.99)


def cosine(start: float, end: float, done: float) -> float:
    """From `start` to `end` along half a cosine; `done` is the share of the training that lies behind."""
    return end + (start - end) * (1 + math.cos(math.pi * min(max(done, 0.0), 1.0))) / 2


def lr_share(decay: float | Literal["cosine"], seen: int, images: int) -> float:
    """What is left of the learning rates after `seen` of `images`.

    They fall in a straight line to 0 over the last share `decay` of the training, or along a cosine to a quarter.
    """
    if decay == "cosine":
        return cosine(1, LR_FALLS_TO, seen / images)
    left = max(images - seen, 0) / images
    return min(1.0, left / decay) if decay else 1.0


def warm_lr_share(done: float) -> float:
    """What is left of the learning rates when this share of the warm start is over: they fall in its second half."""
    return 1 - (1 - WARM_FALLS_TO) * max(2 * done - 1, 0.0)


def beta2_at(beta2: float | Literal["rising"], done: float) -> float:
    """Adam's second momentum: one number, or short at first, when gradients change fast, and longer later."""
    return cosine(*BETA2_RISES, done) if beta2 == "rising" else beta2


def gamma_at(first: float, done: float) -> float:
    """The penalties' weight, from its first value to a tenth of it."""
    return cosine(first, first * GAMMA_FALLS_TO, done)
