"""How often pictures are augmented: always alike, by how many paintings there are, or as over-fitting asks for."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Generator, Tensor

from atelier.training.data import ResidentData
from atelier.training.distributed import ALONE, World
from atelier.training.schedules import cosine
from atelier.training.seeds import generator_for

FEW, SOME, MANY = 1_000, 10_000, 50_000
ADAPT_STEPS = 16  # a step in so many asks, because the answer must leave the device
TARGET = 0.5  # of r_v
CAP = 0.8  # above it augmentation leaks into the pictures (arXiv 2006.06676 §2.2)
IMAGES_PER_UNIT = 500_000  # from 0 to 1 at the fastest, as in that paper
MeanLogits = Callable[
    [Sequence[Tensor], Generator], Tensor
]  # the discriminator's, of each batch, over all processes


def by_size(paintings: int, done: float) -> float:
    """The share of images augmented when this share of the training is over; it grows along half a cosine."""
    if paintings < FEW:
        return 1.0
    top = 0.6 if paintings < SOME else 0.3 if paintings < MANY else 0.0
    return cosine(0, top, done)


@dataclass
class Adaptive:
    """Raises `p` while the discriminator knows its paintings by heart, and lowers it while it does not.

    That is r_v = (D(training) − D(held-out)) / (D(training) − D(generated)) above or below a half. It does not change
    when a number is added to all of D, and so holds for a relativistic game too.
    """

    held_out: ResidentData
    seed: int
    world: World = ALONE
    p: Tensor = field(default_factory=lambda: torch.zeros((), dtype=torch.float64))

    def follow(self, step: int, mean_logits: MeanLogits, real: Tensor, fake: Tensor) -> None:
        """Look at this step's pictures, as training shows them, every ADAPT_STEPS steps, and move `p` in place."""
        if (step + 1) % ADAPT_STEPS:
            return
        draws = generator_for("adapt", self.seed, step)
        batch = len(real) * self.world.size
        unseen = self.held_out.batch(step // ADAPT_STEPS, batch, self.world)
        training, held_out, generated = mean_logits((real, unseen, fake), draws).tolist()
        r_v = (training - held_out) / max(training - generated, 1e-6)
        way = batch * ADAPT_STEPS / IMAGES_PER_UNIT
        self.p.add_(way if r_v > TARGET else -way).clamp_(0, CAP)
