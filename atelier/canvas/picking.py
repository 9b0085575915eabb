"""Of so many candidates the best, by the score of the discriminator that the generator was trained against.

Candidates are taken in groups, so that asking for more pictures later keeps those that were picked before.
"""

import heapq
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt
import torch

from atelier.canvas.render import exact
from atelier.errors import AtelierError
from atelier.networks import load_discriminator

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Pick:
    """The best `keep` of every `of` candidates."""

    keep: int
    of: int

    @classmethod
    def read(cls, words: str) -> Self:
        """As params.yaml has it: "1 of 4"."""
        keep, of = words.split(" of ")
        return cls(int(keep), int(of))


def picked(pick: Pick, count: int, score: Callable[[int], float]) -> Iterator[int]:
    """The indices of `count` candidates: of 0 … of − 1 the best, of the next `of` the best, and so on.

    They come group by group, the best of each first; of two that score alike the first.
    """
    groups = (range(start, start + pick.of) for start in itertools.count(0, pick.of))
    best = (heapq.nlargest(pick.keep, group, key=score) for group in groups)
    return itertools.islice(itertools.chain.from_iterable(best), count)


class Judge:
    """A discriminator that looks at one picture at a time, as `canvas.exact` has it: the same scores everywhere.

    Its batch norms use what training has shown them, of paintings and of generated pictures alike.
    """

    def __init__(self, path: Path, device: torch.device) -> None:
        """Raises AtelierError where the file is absent, damaged, or not one of ours."""
        discriminator, header = load_discriminator(path)
        self.resolution = header["resolution"]
        self._discriminator = exact(discriminator, device)

    @torch.inference_mode()
    def score(self, picture: Pixels) -> float:
        """How much it takes a picture (H, W, 3) of its resolution for a painting, as a logit."""
        if picture.shape != (self.resolution, self.resolution, 3):
            height, width, _ = picture.shape
            raise AtelierError(
                f"the discriminator judges pictures of {self.resolution} × {self.resolution} px, these have "
                f"{width} × {height}: set generate.pick to null"
            )
        weight = next(self._discriminator.parameters())
        image = torch.tensor(picture, device=weight.device, dtype=weight.dtype).permute(2, 0, 1)[None]
        logit = float(self._discriminator(image / 127.5 - 1))
        if not np.isfinite(logit):
            raise AtelierError(
                "the discriminator answers NaN: its training diverged; set generate.pick to null, or lower train.lr "
                "and `dvc repro train`"
            )
        return logit
