"""What an architecture is trained with where params.yaml says `auto`."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, Self


@dataclass(frozen=True)
class Recipe:
    """The settings of `train` that belong together, as params.yaml names them."""

    loss: Literal["nonsaturating", "relativistic"]
    lr_decay: float | Literal["cosine"]
    beta1: float
    beta2: float | Literal["rising"]
    ema: float | Literal["power"]
    augment_probability: float | Literal["by-size", "adaptive"]
    optimizer: Literal["adam", "muon"]
    warm_start: float

    def chosen(self, settings: Mapping[str, Any]) -> Self:
        """This recipe, but with those of `settings` that are not `auto`."""
        return replace(self, **{name: value for name, value in settings.items() if value != "auto"})


# DCGAN's game and Adam (arXiv 1511.06434); the rest as measured in docs/training.md
DCGAN = Recipe(
    loss="nonsaturating", lr_decay=0.6, beta1=0.5, beta2=0.999, ema=0.9995, augment_probability=1.0,
    optimizer="adam", warm_start=0.0,
)  # fmt: skip
SKETCH = replace(DCGAN, optimizer="muon", warm_start=0.25)
# arXiv 2501.05441, and its train.py; the average is EDM2's (arXiv 2312.02696)
R3GAN = Recipe(
    loss="relativistic", lr_decay="cosine", beta1=0.0, beta2="rising", ema="power", augment_probability="by-size",
    optimizer="adam", warm_start=0.0,
)  # fmt: skip
RECIPES: Mapping[str, Recipe] = {"sketch": SKETCH, "dcgan": DCGAN, "r3gan": R3GAN}
