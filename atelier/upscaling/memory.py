"""Work that is done in tiles, and again in smaller ones where memory does not suffice."""

from collections.abc import Callable, Sequence

import torch

from atelier.device import is_out_of_memory
from atelier.errors import AtelierError


def in_memory(work: Callable[[int], None], sides_px: Sequence[int]) -> int:
    """Do the work with tiles of the first of these sides for which memory suffices; that side.

    Raises AtelierError where it suffices for none.
    """
    for side_px in sides_px:
        if _fits(work, side_px):
            return side_px
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    raise AtelierError(
        f"memory does not suffice to enlarge tiles of {sides_px[-1]} px: end other programs, "
        "or set upscale.device to cpu"
    )


def halves(side_px: int, least_px: int) -> list[int]:
    """The side, its half, and so on, as far as `least_px`."""
    return [side_px, *(halves(side_px // 2, least_px) if side_px // 2 >= least_px else [])]


def _fits(work: Callable[[int], None], side_px: int) -> bool:
    """Whether memory sufficed; the error and the tensors that its frames hold are gone when this returns."""
    try:
        work(side_px)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        return False
    return True
