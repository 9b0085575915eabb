"""What the two networks play for."""

from torch import Tensor
from torch.nn import functional


class NonSaturating:
    """Goodfellow's non-saturating game (arXiv 1406.2661 §3), as DCGAN plays it: binary cross-entropy on logits (B,)."""

    @staticmethod
    def discriminator(real: Tensor, fake: Tensor) -> Tensor:
        """−log σ(D(x)) − log(1 − σ(D(g))), each the mean of its batch."""
        return functional.softplus(-real).mean() + functional.softplus(fake).mean()

    @staticmethod
    def generator(fake: Tensor) -> Tensor:
        """−log σ(D(g)), the mean of the batch."""
        return functional.softplus(-fake).mean()
