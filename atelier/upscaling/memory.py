"""Work that is done in tiles, and again in smaller ones where memory does not suffice."""

from collections.abc import Callable

import torch

from atelier.errors import AtelierError

LEAST_PX = 32
REFUSALS = ("can't allocate memory", "not enough memory", "bad_alloc", "could not create a memory object")


def in_memory(work: Callable[[int], None], tile_px: int, least_px: int = LEAST_PX) -> int:
    """Do the work with tiles of this side, or of half of it, and so on; the side that went.

    Raises AtelierError where not even tiles of `least_px` fit.
    """
    while not _fits(work, tile_px):
        if tile_px // 2 < least_px:
            raise AtelierError(
                f"memory does not suffice to enlarge a tile of {tile_px} px: set upscale.device to cpu, or free some"
            )
        tile_px //= 2
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    return tile_px


def _fits(work: Callable[[int], None], tile_px: int) -> bool:
    """Whether memory sufficed; the error and the tensors that its frames hold are gone when this returns."""
    try:
        work(tile_px)
    except (torch.OutOfMemoryError, MemoryError):
        return False
    except RuntimeError as error:  # the CPU's allocator has no class of its own
        if not any(refusal in str(error) for refusal in REFUSALS):
            raise
        return False
    return True
